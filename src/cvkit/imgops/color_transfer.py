"""Giving an image the colours of another: Reinhard's means and deviations, and the linear Monge-Kantorovich map."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from cvkit._checks import check_choice, check_interval
from cvkit.imgops._counting import select
from cvkit.imgops._kinds import Unpacked, from_numpy, is_tensor, unpack
from cvkit.imgops._pixels import Values, namespace, scaled, unscaled
from cvkit.imgops._spaces import lab_from_rgb, oklab_from_rgb, rgb_from_lab, rgb_from_oklab
from cvkit.imgops.matching import open_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cvkit._types import Image, ImageT

__all__ = ["transfer_color"]

_FLAT = 1e-10  # variance of values in [0, 1] that counts as none

_SPACES: dict[str, tuple[Any, Any]] = {
    "lab": (lab_from_rgb, rgb_from_lab),
    "oklab": (oklab_from_rgb, rgb_from_oklab),
    "rgb": (lambda rgb: rgb, lambda rgb: rgb),
}


def transfer_color(
    image: ImageT,
    reference: Image,
    *,
    method: Literal["reinhard", "monge-kantorovich"] = "reinhard",
    space: Literal["lab", "oklab", "rgb"] | None = None,
    strength: float = 1.0,
    mask: Image | None = None,
    reference_mask: Image | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    reference_range: Sequence[float] | None = None,
) -> ImageT:
    """Change the colours of an image so that their mean and spread become those of a reference.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch, with three colour channels. Alpha is left alone.
    reference : Pillow image, ndarray or Tensor
        An image of any kind and size with three colour channels, or a batch of as many.
    method : {'reinhard', 'monge-kantorovich'}, default 'reinhard'
        Match mean and standard deviation of each channel by itself; or means and the whole covariance, by the linear
        map that moves the colours least.
    space : {'lab', 'oklab', 'rgb'}, optional
        Where to do it: by default CIELAB for Reinhard's method and sRGB as stored for the other.
    strength : float, default 1.0
        Share in [0, 1] of the change that is made.
    mask, reference_mask : Pillow image, ndarray or Tensor, optional
        Only pixels where these are not zero are looked at; the change is applied to all.
    channel_axis : int, optional
        The axis of the channels, in both images, where it is not the usual one (last for arrays, third from the end
        for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, in both images; by default it is where there are four channels.
    data_range, reference_range : (low, high), optional
        Range of the values of each image, by default the dtype's, [0, 1] for floats; needed for int16 and int32. If
        both images have the same dtype `data_range` serves for both.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape as `image`, clipped to its range. Pixels whose alpha is zero and NaN are not
        looked at; where nothing is left to look at, nothing changes. A channel without spread is moved, not
        stretched. Differentiable for float tensors, with respect to the image.

    Raises
    ------
    TypeError
        If an image is of a kind that has no plain colours.
    ValueError
        If an image has not three colour channels, or numbers or sizes do not fit.

    References
    ----------
    E. Reinhard, M. Ashikhmin, B. Gooch, P. Shirley, "Color transfer between images", IEEE CG&A 21 (2001), Eqs. (10),
    (11). F. Pitie, A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour
    transfer", CVMP (2007), Eq. (7).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import transfer_color
    >>> rng = np.random.default_rng(0)
    >>> gray = rng.integers(60, 200, (16, 16, 3), dtype=np.uint8)
    >>> warm = gray // np.array([1, 2, 4], dtype=np.uint8)
    >>> out = transfer_color(gray, warm, method="monge-kantorovich")
    >>> np.abs(out.mean((0, 1)) - warm.mean((0, 1))).max() < 1.0
    np.True_
    """
    check_choice("method", method, ("reinhard", "monge-kantorovich"))
    check_choice("space", space, (None, *_SPACES))
    strength = check_interval("strength", strength, 0.0, 1.0)
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    other = open_reference(reference, opened, channel_axis, alpha, data_range, reference_range)
    count = opened.pixels.shape[0]
    for each in (opened, other):
        if each.colors != 3:
            raise ValueError(f"`{each.name}` must have three colour channels; got {each.colors}")
    if other.pixels.shape[0] not in {1, count}:
        raise ValueError(f"`reference` must be one image or as many as `image`, {count}; got {other.pixels.shape[0]}")
    if 0 in opened.pixels.shape:
        return cast("ImageT", opened.pack(opened.pixels))
    forth, back = _SPACES[space or ("lab" if method == "reinhard" else "rgb")]
    rule = _reinhard if method == "reinhard" else _monge_kantorovich
    source, wanted = (namespace(each.pixels).clip(scaled(each, each.color), 0.0, 1.0) for each in (opened, other))
    source, target = forth(source), forth(wanted)
    target = _beside(target, source)
    chosen, there = _visible(opened, mask, source), _visible(other, reference_mask, target)
    moved = []
    for n in range(count):
        own = source[n].reshape(3, -1)
        seen, wanted = own[:, chosen[n]], target[n % len(target)].reshape(3, -1)[:, there[n % len(target)]]
        changed = own if 0 in {seen.shape[1], wanted.shape[1]} else rule(own, seen, wanted)
        if strength != 1:
            changed = own + strength * (changed - own)
        moved.append(changed.reshape(source[n].shape))
    xp = namespace(source)
    result = xp.stack(moved) if moved else source
    return cast("ImageT", opened.pack_color(unscaled(opened, xp.clip(back(result), 0.0, 1.0))))


def _beside(values: Values, like: Values) -> Values:
    """Return values in the library, dtype and on the device of `like`; the reference has no gradient."""
    if is_tensor(like):
        tensor = values.detach() if is_tensor(values) else from_numpy(values)
        return tensor.to(device=like.device, dtype=like.dtype)
    return values.detach().cpu().numpy() if is_tensor(values) else values


def _visible(opened: Unpacked, mask: Image | None, values: Values) -> Values:
    """Return which pixels are looked at, (N, H * W): those of the mask that are neither transparent nor NaN."""
    known = ~namespace(values).isnan(values).any(1).reshape(len(values), -1)
    chosen = select(opened, mask, skip_transparent=True)
    if chosen is None:
        return known
    flat: Any = np.broadcast_to(chosen.reshape(len(chosen), -1), tuple(known.shape)).copy()
    if is_tensor(known):
        flat = from_numpy(flat).to(known.device)
    return known & flat


def _reinhard(own: Values, seen: Values, wanted: Values) -> Values:
    """Match means and standard deviations, Eqs. (10) and (11); columns are pixels."""
    xp = namespace(own)
    mean, there = seen.mean(1)[:, None], wanted.mean(1)[:, None]
    variance, spread = ((seen - mean) ** 2).mean(1)[:, None], ((wanted - there) ** 2).mean(1)[:, None]
    flat = variance <= 1e-12
    factor = xp.where(flat, xp.ones_like(variance), spread / xp.where(flat, xp.ones_like(variance), variance)) ** 0.5
    return (own - mean) * factor + there


def _monge_kantorovich(own: Values, seen: Values, wanted: Values) -> Values:
    """Match means and covariances by the map A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2), Eq. (7)."""
    mean, there = seen.mean(1)[:, None], wanted.mean(1)[:, None]
    a, b = (_covariance(x, m) for x, m in ((seen, mean), (wanted, there)))
    root, inverse = _roots(a)
    middle, _ = _roots(root @ b @ root)
    # Directions without spread have no factor of their own and keep their place.
    kept = namespace(own).eye(3, dtype=own.dtype) if not is_tensor(own) else _identity_like(own)
    linear = inverse @ middle @ inverse + (kept - inverse @ root)
    return linear @ (own - mean) + there


def _identity_like(own: Values) -> Values:
    import torch

    return torch.eye(3, dtype=own.dtype, device=own.device)


def _covariance(values: Values, mean: Values) -> Values:
    off = values - mean
    return off @ off.T / values.shape[1]


def _roots(matrix: Values) -> tuple[Values, Values]:
    """Return the square root of a symmetric matrix, and its inverse without the directions that have no extent."""
    if is_tensor(matrix):
        found: tuple[Values, Values] = _tensor_roots().apply(matrix)
        return found
    values, vectors = np.linalg.eigh(matrix)
    flat = values <= _FLAT
    root = np.sqrt(np.maximum(values, 0.0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=~flat)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


@cache
def _tensor_roots() -> Any:
    """Return `_roots` for tensors; unlike that of `eigh` its derivative stays finite where eigenvalues meet."""
    import torch

    class Roots(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, matrix: Tensor) -> tuple[Tensor, Tensor]:
            values, vectors = torch.linalg.eigh(matrix)
            flat = values <= _FLAT
            root = values.clamp(min=0).sqrt()
            inverse = torch.where(flat, torch.zeros_like(values), 1 / torch.where(flat, 1.0, root))
            ctx.save_for_backward(root, inverse, vectors)
            return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            root, inverse, vectors = ctx.saved_tensors
            # In the eigenbasis: d root_ij = dA_ij / (r_i + r_j), d inverse_ij = -dA_ij / (r_i r_j (r_i + r_j)).
            both = root[:, None] + root[None, :]
            steep = both <= 1e-8  # rounding errors of zero, whose slope means nothing
            share = torch.where(steep, 0.0, 1 / torch.where(steep, 1.0, both))
            first, second = (vectors.T @ grad @ vectors for grad in grads)
            inner = first * share - second * share * inverse[:, None] * inverse[None, :]
            return cast("Tensor", vectors @ inner @ vectors.T)

    return Roots
