"""Maps from scores of altered copies: Ablation-CAM at the layer; Score-CAM, SS-CAM, IS-CAM and Group-CAM at the input.

No graph is built. Altered activations restart the model at the layer; altered inputs go through all of it, in passes of
`chunk` samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cvkit._checks import check_choice, check_integer, check_interval
from cvkit.explain import cam
from cvkit.explain._call import MANY, Call
from cvkit.explain._maps import resize_maps
from cvkit.explain._method import Method, Traits, draw_normal, noise_generators
from cvkit.explain._resolution import select_logits
from cvkit.explain._restart import scores_from_layer
from cvkit.explain._setup import Attribution
from cvkit.explain.targets import Probability

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ISCAM", "SSCAM", "AblationCAM", "GroupCAM", "ScoreCAM"]


@dataclass(frozen=True)
class AblationCAM(Method):
    """Ablation-CAM: a channel's weight is by how much the score falls when the channel is set to 0.

    ``L = sum_k (y - y_k) A_k``.

    The paper divides the fall by the score, which only scales a sample's map, but turns it over where the score is
    negative; the fall itself is taken. The model is restarted at the layer, so that a channel costs what lies above.

    References
    ----------
    Desai, Ramaswamy, "Ablation-CAM: visual explanations for deep convolutional network via gradient-free localization",
    WACV 2020, Eqs. (3) and (5).

    Examples
    --------
    >>> AblationCAM()
    AblationCAM()
    """

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(gradient=False, differentiable=False)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        raw = []
        for i, A in enumerate(call.activations):
            weights = torch.cat([self._falls(part, i) for part in call.parts()])
            raw.append(cam.cam(A, weights.to(A.dtype)))
        return Attribution(tuple(raw))

    @staticmethod
    def _falls(call: Call, which: int) -> Tensor:
        """Return the falls of the score ``(N, C)``."""
        A = call.activations[which]
        channels = A.shape[1]
        if call.rows == 0:
            return A.new_zeros(0, channels)

        def ablate(buffer: Tensor, start: int, stop: int) -> None:
            buffer[torch.arange(stop - start), :, torch.arange(start, stop)] = 0

        fallen: Tensor = (call.scores.detach() - scores_from_layer(call, which, channels, ablate)).T  # y - y_k
        return fallen


def _masks(A: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return one channel's activations ``(N, *S)``, resized and then brought to [0, 1] per sample; 0 where constant."""
    return _unit(resize_maps(A, size))


def _unit(maps: Tensor) -> Tensor:
    """Bring each map ``(N, *S)`` to [0, 1]; a constant one to 0."""
    if maps.numel() == 0:
        return maps
    flat = maps.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    shape = (-1, *[1] * (maps.dim() - 1))
    return (maps - low.view(shape)) / span.view(shape)


def _masked_scores(call: Call, masks: Iterator[Tensor], count: int) -> Tensor:
    """Return the scores ``(count, N)`` of the image under masks ``(N, *S)``, in passes."""
    image = call.image
    block = call.copies_per_pass(image)
    scores: list[Tensor] = []
    for start in call.setup.show(range(0, count, block), math.ceil(count / block)):
        some = torch.stack([next(masks) for _ in range(min(block, count - start))])  # (K, N, *S)
        scores.append(call.scores_of_images(image * some.unsqueeze(2).to(image.dtype), many=count >= MANY))
    return torch.cat(scores) if scores else image.new_zeros(0, call.rows)


def _probability_call(call: Call) -> Call:
    """Return the call with the probability of its class in the place of its logit, where it has a class."""
    logits = select_logits(call.output, call.setup.select)
    if call.resolved.of_class and logits is not None and call.resolved.index is not None:
        return call.aimed(Probability(call.resolved.index))
    return call


@dataclass(frozen=True)
class ScoreCAM(Method):
    """Score-CAM: a channel's weight is the score of the input seen through the channel.

    ``L = sum_k w_k A_k`` with ``w = softmax_k(f(x * H_k))``, or ``w_k = p(x * H_k)``, and ``H_k = norm(up(A_k))``.

    Both published variants. A mask is a channel of the activations, resized to the input and *then* brought to [0, 1].

    Parameters
    ----------
    softmax : {'channel', 'class'}
        ``"channel"`` is the paper's algorithm: the softmax, over the channels, of the scores of the masked inputs (the
        score of the baseline, taken off in the paper, cancels there). ``"class"`` is the authors' code: the probability
        of the class, and constant channels count nothing.

    References
    ----------
    Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPRW 2020,
    arXiv:1910.01279, Algorithm 1.

    Examples
    --------
    >>> ScoreCAM()
    ScoreCAM(softmax='channel')
    """

    softmax: Literal["channel", "class"] = "channel"

    def __post_init__(self) -> None:
        check_choice("softmax", self.softmax, ("channel", "class"))

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(gradient=False, differentiable=False)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        raw = []
        aimed = _probability_call(call) if self.softmax == "class" else call
        for A in call.activations:
            scores = self._scores(aimed, A)
            weights = scores.softmax(1) if self.softmax == "channel" else scores
            raw.append(cam.cam(A, weights.to(A.dtype)))
        return Attribution(tuple(raw))

    def _scores(self, call: Call, A: Tensor) -> Tensor:
        """Return the scores ``(N, C)`` of the masked inputs; constant channels, whose mask is 0, share one pass."""
        if A.numel() == 0:
            return A.new_zeros(A.shape[:2])
        flat = A.flatten(2)
        constant = flat.amax(2) == flat.amin(2)  # (N, C)
        wanted = (~constant).any(0).nonzero()[:, 0].tolist()
        size = tuple(call.image.shape[2:])
        scores = A.new_zeros(A.shape[:2])
        if self.softmax == "channel" and bool(constant.any()):
            dark = call.scores_of_images(torch.zeros_like(call.image)[None])[0].to(A.dtype)
            scores = dark[:, None].expand_as(scores).clone()
        if wanted:
            found = _masked_scores(call, (_masks(A[:, k], size) for k in wanted), len(wanted)).T.to(A.dtype)
            kept = constant[:, wanted]
            scores[:, wanted] = torch.where(kept, scores[:, wanted], found)
        return scores


@dataclass(frozen=True)
class SSCAM(Method):
    """SS-CAM: Score-CAM with scores averaged over noisy masks or noisy masked inputs.

    ``w = softmax_k(mean_i f(x * (H_k + n_i)))``, or ``f(x * H_k + n_i)`` with noise on the input.

    Takes `samples` passes a channel. The published noise is large beside a mask in [0, 1], so that few samples tell
    classes apart badly.

    Parameters
    ----------
    samples : int, default 35
        Noisy copies of each mask.
    sigma : float, default 2.0
        Standard deviation of the noise: on masks in [0, 1], or on input values.
    noise : {'mask', 'input'}
        Where the noise is added: to the mask, or to the masked input.

    References
    ----------
    Wang et al., "SS-CAM: smoothed Score-CAM for sharper visual feature localization", arXiv:2006.14255, sections 3.1
    and 3.2.

    Examples
    --------
    >>> SSCAM()
    SSCAM(samples=35, sigma=2.0, noise='mask')
    """

    samples: int = 35
    sigma: float = 2.0
    noise: Literal["mask", "input"] = "mask"

    def __post_init__(self) -> None:
        check_integer("samples", self.samples, minimum=1)
        check_interval("sigma", self.sigma, 0.0)
        check_choice("noise", self.noise, ("mask", "input"))

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(gradient=False, differentiable=False, random=True)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        raw = []
        for A in call.activations:
            if A.numel() == 0:
                raw.append(A.sum(1))
                continue
            count = A.shape[1] * self.samples
            scores = self._noisy_scores(call, A, count)  # (C * samples, N)
            means = scores.unflatten(0, (A.shape[1], self.samples)).mean(1).T  # type: ignore[no-untyped-call]
            raw.append(cam.cam(A, means.softmax(1).to(A.dtype)))
        return Attribution(tuple(raw))

    def _noisy_images(self, call: Call, A: Tensor) -> Iterator[Tensor]:
        """Yield the noisy masked inputs, channel by channel; a sample's noise comes from its own generator."""
        generators = noise_generators(call)
        image = call.image
        for k in range(A.shape[1]):
            mask = _masks(A[:, k], tuple(image.shape[2:])).unsqueeze(1).to(image.dtype)
            for _ in range(self.samples):
                if self.noise == "mask":
                    yield image * (mask + self.sigma * draw_normal(generators, mask))
                else:
                    yield image * mask + self.sigma * draw_normal(generators, image)

    def _noisy_scores(self, call: Call, A: Tensor, count: int) -> Tensor:
        """Return the scores ``(C * samples, N)``."""
        images = self._noisy_images(call, A)
        block = call.copies_per_pass(call.image)
        scores = []
        for start in call.setup.show(range(0, count, block), math.ceil(count / block)):
            some = torch.stack([next(images) for _ in range(min(block, count - start))])
            scores.append(call.scores_of_images(some, many=count >= MANY))
        return torch.cat(scores)


@dataclass(frozen=True)
class ISCAM(Method):
    """IS-CAM: Score-CAM with scores averaged along the way from a dark to the full mask.

    ``w = softmax_k(mean_i f(x * H_k * i / N))`` for i from 1 to N.

    Parameters
    ----------
    samples : int, default 10
        Steps on the way: the mask times 1/N, 2/N, ... 1.

    References
    ----------
    Naidu et al., "IS-CAM: integrated Score-CAM for axiomatic-based explanations", arXiv:2010.03023, Eqs. (5) to (7).

    Examples
    --------
    >>> ISCAM()
    ISCAM(samples=10)
    """

    samples: int = 10

    def __post_init__(self) -> None:
        check_integer("samples", self.samples, minimum=1)

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(gradient=False, differentiable=False)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        raw = []
        for A in call.activations:
            if A.numel() == 0:
                raw.append(A.sum(1))
                continue
            size = tuple(call.image.shape[2:])
            masks = (
                mask * (step / self.samples)
                for mask in (_masks(A[:, k], size) for k in range(A.shape[1]))
                for step in range(1, self.samples + 1)
            )
            scores = _masked_scores(call, masks, A.shape[1] * self.samples)
            means = scores.unflatten(0, (A.shape[1], self.samples)).mean(1).T  # type: ignore[no-untyped-call]
            raw.append(cam.cam(A, means.softmax(1).to(A.dtype)))
        return Attribution(tuple(raw))


@dataclass(frozen=True)
class GroupCAM(Method):
    """Group-CAM: groups of channels, weighted as in Grad-CAM, become masks whose scores weigh them.

    ``L = sum_g w_g M_g`` with ``w_g = f(x * M_g + blur(x) * (1 - M_g)) - f(blur(x))``.

    A group's mask is the positive part of its weighted sum, with values below its `quantile` set to 0, brought to [0,
    1]. The input is seen through the mask, blurred elsewhere; the mask's weight is by how much that raises the score
    over the wholly blurred input.

    Parameters
    ----------
    groups : int, default 32
        Groups of neighbouring channels; never more than there are channels.
    quantile : float, default 0.7
        The share of each mask that is set to 0.
    blur : float, default 0.22
        Standard deviation and window of the blur, as a share of the shorter side (51 pixels of 224).

    References
    ----------
    Zhang, Rao, Yang, "Group-CAM: group score-weighted visual explanations for deep convolutional networks",
    arXiv:2103.13859, Eqs. (3) to (8).

    Examples
    --------
    >>> GroupCAM()
    GroupCAM(groups=32, quantile=0.7, blur=0.22)
    """

    groups: int = 32
    quantile: float = 0.7
    blur: float = 0.22

    def __post_init__(self) -> None:
        check_integer("groups", self.groups, minimum=1)
        check_interval("quantile", self.quantile, 0.0, 1.0, high_open=True)
        check_interval("blur", self.blur, 0.0, low_open=True)

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(differentiable=False)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        image = call.image
        if call.rows == 0:
            return Attribution(tuple(A.sum(1) for A in call.activations))
        blurred = blur_image(image, self.blur)
        dark = call.scores_of_images(blurred[None])[0]
        raw = []
        for A, g in zip(call.activations, call.gradients, strict=True):
            masks = self._group_masks(A, g)  # (G, N, *S)
            block = call.copies_per_pass(image)
            gains = []
            for start in call.setup.show(range(0, len(masks), block), math.ceil(len(masks) / block)):
                some = masks[start : start + block]
                seen = torch.stack([resize_maps(mask, image.shape[2:]) for mask in some]).unsqueeze(2).to(image.dtype)
                gains.append(call.scores_of_images(blurred + seen * (image - blurred)) - dark)
            weights = torch.cat(gains).to(A.dtype)  # (G, N)
            raw.append(torch.einsum("gn,gn...->n...", weights, masks))
        return Attribution(tuple(raw))

    def _group_masks(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the groups' masks ``(G, N, *S)`` at the layer's size."""
        weighted = g.mean(list(range(2, g.dim())), keepdim=True) * A
        bounds = torch.linspace(0, A.shape[1], min(self.groups, A.shape[1]) + 1).round().long().tolist()
        masks = []
        for start, stop in pairwise(bounds):
            mask = weighted[:, start:stop].sum(1).relu()
            low = mask.flatten(1).quantile(self.quantile, dim=1).view(-1, *[1] * (mask.dim() - 1))
            masks.append(_unit(torch.where(mask >= low, mask, torch.zeros_like(mask))))
        return torch.stack(masks)


def blur_image(image: Tensor, share: float) -> Tensor:
    """Blur ``(N, C, *S)`` by a Gaussian whose deviation and window are a share of the shorter side, edges reflected."""
    side = min(image.shape[2:])
    radius = max(1, round(share * side / 2))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = (-0.5 * (offsets / (share * side)).square()).exp()
    kernel = kernel / kernel.sum()
    for axis in range(2, image.dim()):
        line = image.movedim(axis, -1)
        length = line.shape[-1]
        flat = line.reshape(-1, 1, length)
        reach = min(radius, length - 1)
        padded = F.pad(flat, (reach, reach), mode="reflect") if reach else flat
        padded = F.pad(padded, (radius - reach, radius - reach), mode="replicate")
        image = F.conv1d(padded, kernel[None, None]).reshape(line.shape).movedim(-1, axis)
    return image
