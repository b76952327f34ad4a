r"""Class activation maps as pure functions of activations and gradients, of any spatial rank.

Throughout, ``A`` are a layer's activations of shape (N, C, \*S), ``g`` the gradients of the explained scores with
respect to them, of the same shape, and the result is the *raw* map (N, \*S): signed, before ReLU, resizing and
normalisation. Half-precision tensors are computed in float32. No function divides by a sum that may vanish: where a
published formula does, the weight is 0 there.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cvkit._checks import check_choice, check_instance, check_integer, check_interval

__all__ = [
    "cam",
    "eigencam",
    "eigengradcam",
    "elementwise",
    "fem",
    "from_moments",
    "gradcam",
    "gradcam_plus_plus",
    "hirescam",
    "kpcacam",
    "layercam",
    "segxrescam",
    "shapleycam",
    "smooth_gradcam_plus_plus",
    "xgradcam",
]


def _activations(A: Tensor) -> Tensor:
    """Return checked activations in at least float32."""
    check_instance("A", A, Tensor, "a tensor of activations (N, C, *S)")
    if A.dim() < 3:
        raise ValueError(f"`A` must have shape (N, C, *S) with at least one spatial axis; got {tuple(A.shape)}")
    if not A.is_floating_point():
        raise TypeError(f"`A` must be floating; got {A.dtype}")
    return A.float() if A.dtype.itemsize < 4 else A


def _pair(A: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Return checked activations and gradients."""
    A = _activations(A)
    check_instance("g", g, Tensor, "a tensor of gradients (N, C, *S)")
    if g.shape != A.shape:
        raise ValueError(f"`g` must have the shape of `A`, {tuple(A.shape)}; got {tuple(g.shape)}")
    return A, g.to(A.dtype)


def _spatial(tensor: Tensor) -> list[int]:
    """Return the spatial axes."""
    return list(range(2, tensor.dim()))


def _weighted(weights: Tensor, A: Tensor) -> Tensor:
    """Return the sum over channels of weights (N, C) times activations."""
    flat = A.flatten(2)
    return torch.einsum("nc,ncp->np", weights, flat).reshape(A.shape[0], *A.shape[2:])


def _summed(A: Tensor, g: Tensor) -> Tensor:
    """Return the sum over channels of the products."""
    summed: Tensor = torch.einsum("nc...,nc...->n...", A, g)
    return summed


def cam(A: Tensor, weights: Tensor) -> Tensor:
    r"""Class activation map of a network that ends in global average pooling and one linear layer.

    ``L = sum_k w_k A_k`` over the channels k.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        The activations that are pooled.
    weights : Tensor of shape (N, C)
        For each sample the linear layer's weights of its class.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Zhou et al., "Learning deep features for discriminative localization", CVPR 2016, arXiv:1512.04150, Eq. (2).

    Examples
    --------
    >>> import torch
    >>> cam(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[1.0, -1.0]]))
    tensor([[-2., -2.]])
    """
    A = _activations(A)
    if weights.shape != A.shape[:2]:
        raise ValueError(f"`weights` must have shape {tuple(A.shape[:2])}; got {tuple(weights.shape)}")
    return _weighted(weights.to(A.dtype), A)


def gradcam(A: Tensor, g: Tensor) -> Tensor:
    r"""Grad-CAM: channels weighted by the spatial mean of their gradients.

    ``L = sum_k mean(g_k) A_k``.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map; the published map is its ReLU.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017,
    arXiv:1610.02391, Eqs. (1) and (2).

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> g = torch.tensor([[[0.0, 2.0], [1.0, -3.0]]])
    >>> gradcam(A, g)
    tensor([[-2., -2.]])
    """
    A, g = _pair(A, g)
    return _weighted(g.mean(_spatial(g)), A)  # Eq. (1): weights = spatial mean of the gradients; Eq. (2): weighted sum


def gradcam_plus_plus(A: Tensor, g: Tensor) -> Tensor:
    r"""Grad-CAM++: positive gradients, weighted by how much of the class score each position accounts for.

    With the score ``exp(y)`` and ``y`` piecewise linear, the second and third derivatives are ``g**2`` and ``g**3``,
    and Eq. (19) becomes ``alpha = 1 / (2 + g * sum(A))``: no small constant is needed, since for ``g > 0`` and
    ``A >= 0`` the denominator is at least 2. Where activations are signed and the denominator is not positive, the
    position counts nothing.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations, meant to be non-negative.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Chattopadhay et al., "Grad-CAM++: improved visual explanations for deep convolutional networks", WACV 2018,
    arXiv:1710.11063, Eqs. (5) and (19). The factor ``exp(y) > 0`` of Eq. (5) only scales a sample's map and is left
    out.

    Examples
    --------
    >>> import torch
    >>> gradcam_plus_plus(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.5, -1.0]]]))
    tensor([[0.1250, 0.3750]])
    """
    A, g = _pair(A, g)
    total = A.sum(_spatial(A), keepdim=True)
    denominator = 2.0 + g * total
    counts = (g > 0) & (denominator > 0)
    alpha = torch.where(counts, 1.0 / torch.where(counts, denominator, torch.ones_like(g)), torch.zeros_like(g))
    return _weighted((alpha * g.relu()).sum(_spatial(g)), A)


def smooth_gradcam_plus_plus(A: Tensor, gradients: Tensor) -> Tensor:
    r"""Smooth Grad-CAM++: Grad-CAM++ with derivatives averaged over noisy copies of the input.

    ``alpha = mean(g**2) / (2 mean(g**2) + sum(A) mean(g**3))`` and ``w_k = sum(alpha relu(mean(g)))``, means over the
    copies and sums over the positions.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations of the clean input.
    gradients : Tensor of shape (K, N, C, \*S)
        Gradients of K noisy copies.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Omeiza et al., "Smooth Grad-CAM++", arXiv:1908.01224, Eqs. (8) and (9): first, second and third derivatives are
    averaged over the copies, each before it is used.

    Examples
    --------
    >>> import torch
    >>> A, g = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.5, -1.0]]])
    >>> torch.equal(smooth_gradcam_plus_plus(A, torch.stack([g, g])), gradcam_plus_plus(A, g))
    True
    """
    A = _activations(A)
    if gradients.dim() != A.dim() + 1 or gradients.shape[1:] != A.shape or gradients.shape[0] == 0:
        raise ValueError(
            f"`gradients` must have shape (K, {', '.join(map(str, A.shape))}); got {tuple(gradients.shape)}"
        )
    g = gradients.to(A.dtype)
    return from_moments(A, g.mean(0), g.pow(2).mean(0), g.pow(3).mean(0))


def from_moments(A: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    r"""Smooth Grad-CAM++ from the derivatives' means, for those who do not keep all copies.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations of the clean input.
    first, second, third : Tensor of shape (N, C, \*S)
        Means over the copies of the gradients, their squares and their cubes.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map.

    Examples
    --------
    >>> import torch
    >>> A, g = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.5, -1.0]]])
    >>> from_moments(A, g, g**2, g**3)
    tensor([[0.1250, 0.3750]])
    """
    denominator = 2.0 * second + A.sum(_spatial(A), keepdim=True) * third
    counts = (second > 0) & (denominator > 0)
    alpha = torch.where(
        counts, second / torch.where(counts, denominator, torch.ones_like(second)), torch.zeros_like(second)
    )
    return _weighted((alpha * first.relu()).sum(_spatial(A)), A)


def xgradcam(A: Tensor, g: Tensor) -> Tensor:
    r"""XGrad-CAM: gradients averaged with the activations as weights.

    ``L = sum_k w_k A_k`` with ``w_k = sum(g_k A_k) / sum(A_k)``.

    The weight of a channel whose activations are all 0, or sum to 0, is 0.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations, meant to be non-negative.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map. Its sum is the sum of ``g * A`` over the channels that count.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Fu et al., "Axiom-based Grad-CAM", BMVC 2020, arXiv:2008.02312, Eq. (8).

    Examples
    --------
    >>> import torch
    >>> xgradcam(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, -2.0]]]))
    tensor([[-1., -3.]])
    """
    A, g = _pair(A, g)
    total = A.sum(_spatial(A))
    # A sum that is rounding of cancelled terms gives weights of any size; such a channel says nothing.
    tiny = torch.finfo(A.dtype).eps * A.abs().sum(_spatial(A))
    counts = total.abs() > tiny
    weights = (g * A).sum(_spatial(A)) / torch.where(counts, total, torch.ones_like(total))
    return _weighted(torch.where(counts, weights, torch.zeros_like(weights)), A)


def hirescam(A: Tensor, g: Tensor) -> Tensor:
    r"""HiResCAM: the sum over channels of gradient times activation.

    ``L = sum_k g_k A_k``.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map, for which the paper's guarantee holds; its ReLU is for display.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Draelos, Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    arXiv:2011.08891, Eq. (4).

    Examples
    --------
    >>> import torch
    >>> hirescam(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, -2.0]]]))
    tensor([[ 2., -6.]])
    """
    A, g = _pair(A, g)
    return _summed(A, g)


def elementwise(A: Tensor, g: Tensor) -> Tensor:
    r"""Grad-CAM without pooling: gradient times activation, positive part per channel, summed.

    ``L = sum_k relu(g_k A_k)``.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map, not negative.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Pillai, Pirsiavash, "Explainable models with consistent interpretations", AAAI 2021: the element-wise form of
    Grad-CAM.

    Examples
    --------
    >>> import torch
    >>> elementwise(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, -2.0]]]))
    tensor([[2., 0.]])
    """
    A, g = _pair(A, g)
    return (A * g).relu().sum(1)


def layercam(A: Tensor, g: Tensor) -> Tensor:
    r"""LayerCAM: activations weighted, position by position, by the positive part of their gradients.

    ``L = sum_k relu(g_k) A_k``.

    For shallow layers the paper scales the map by ``tanh(2 M / max M)`` and fuses layers by their maximum:
    ``fuse="tanh-max"``.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", IEEE TIP 2021,
    doi:10.1109/TIP.2021.3089943, Eqs. (5) to (7).

    Examples
    --------
    >>> import torch
    >>> layercam(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, -2.0]]]))
    tensor([[2., 0.]])
    """
    A, g = _pair(A, g)
    return _summed(A, g.relu())


def _first_component(X: Tensor) -> Tensor:
    """Return the projection of positions (N, C, P) on the first direction in channels, in float64: (N, P), sign open.

    The smaller of the two Gram matrices is decomposed: P by P or C by C, never the full decomposition.
    """
    channels, positions = X.shape[1:]
    if positions <= channels:
        values, vectors = torch.linalg.eigh(X.mT @ X)
        scaled: Tensor = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
        return scaled
    _, vectors = torch.linalg.eigh(X @ X.mT)
    projected: Tensor = (vectors[..., -1:].mT @ X)[:, 0]
    return projected


def _principal(values: Tensor, *, center: bool) -> Tensor:
    """Return the first principal projection of values (N, C, *S), its sign such that it goes along with their mean."""
    flat = values.flatten(2)
    if flat.numel() == 0:
        return values.sum(1)
    finite = torch.isfinite(flat).flatten(1).all(1)
    safe = torch.where(finite.view(-1, 1, 1), flat, 0.0).double()
    projection = _first_component(safe - safe.mean(2, keepdim=True) if center else safe)
    reference = safe.mean(1)
    if center:
        reference = reference - reference.mean(1, keepdim=True)
    # The sign of a singular vector is arbitrary: positive where the activations are, on the whole, high.
    sign = torch.where((projection * reference).sum(1, keepdim=True) < 0, -1.0, 1.0)
    projection = torch.where(finite[:, None], sign * projection, torch.full_like(projection, math.nan))
    return projection.to(values.dtype).reshape(values.shape[0], *values.shape[2:])


def eigencam(A: Tensor, *, center: bool = False) -> Tensor:
    r"""EigenCAM: activations projected on their first right singular vector. Needs no target.

    With positions as rows and channels as columns, ``A = U S V^T`` and ``L = A v_1``.

    The sign, which a decomposition leaves open, is chosen so that the map goes along with the mean of the channels.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    center : bool, default False
        Whether each channel's mean is taken off first, as some implementations do; the paper does not.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map.

    Raises
    ------
    ValueError
        If the shape does not fit.

    References
    ----------
    Muhammad, Yeasin, "Eigen-CAM: class activation map using principal components", IJCNN 2020, arXiv:2008.00299, Eq.
    (3).

    Examples
    --------
    >>> import torch
    >>> eigencam(torch.tensor([[[0.0, 3.0], [0.0, 4.0]]]))
    tensor([[0., 5.]])
    """
    return _principal(_activations(A), center=center)


def eigengradcam(A: Tensor, g: Tensor, *, magnitude: bool = False, center: bool = False) -> Tensor:
    r"""EigenCAM of gradient times activation: the same with regard to a class.

    ``g * A = U S V^T`` and ``L = (g * A) v_1``.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.
    magnitude : bool, default False
        Whether the magnitude of the gradients is used (the variant for segmentation).
    center : bool, default False
        Whether each channel's mean is taken off first.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map, its sign chosen so that it goes along with the mean over channels of what is decomposed.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Muhammad, Yeasin, arXiv:2008.00299, applied to the product; for segmentation see doi:10.3390/app15137562.

    Examples
    --------
    >>> import torch
    >>> eigengradcam(torch.tensor([[[0.0, 3.0], [0.0, 4.0]]]), torch.ones(1, 2, 2))
    tensor([[0., 5.]])
    """
    A, g = _pair(A, g)
    return _principal((g.abs() if magnitude else g) * A, center=center)


def kpcacam(
    A: Tensor,
    *,
    kernel: Literal["sigmoid", "rbf", "linear"] = "sigmoid",
    gamma: float | None = None,
    offset: float = 1.0,
) -> Tensor:
    r"""KPCA-CAM: the first kernel principal component of the activations. Needs no target.

    ``L = sqrt(lambda_1) a_1``, of the first eigenvalue and eigenvector of the centred kernel matrix.

    Positions are the samples and channels the features; the kernel matrix is centred. The sign is chosen so that the
    map goes along with the mean of the channels.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations. The kernel matrix has the square of the number of positions as size.
    kernel : {'sigmoid', 'rbf', 'linear'}
        ``tanh(gamma x.y + offset)``, ``exp(-gamma |x - y|^2)`` or ``x.y``.
    gamma : float, optional
        Scale of the kernel; 1 / C if not given.
    offset : float, default 1.0
        Offset of the sigmoid kernel.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map.

    Raises
    ------
    ValueError
        If the shape or the kernel does not fit.

    References
    ----------
    Karmani et al., "KPCA-CAM: visual explainability of deep computer vision models using kernel PCA", arXiv:2410.00267.

    Examples
    --------
    >>> import torch
    >>> kpcacam(torch.tensor([[[0.0, 3.0], [0.0, 4.0]]]), kernel="linear")
    tensor([[-2.5000,  2.5000]])
    """
    A = _activations(A)
    check_choice("kernel", kernel, ("sigmoid", "rbf", "linear"))
    scale = 1.0 / A.shape[1] if gamma is None else check_interval("gamma", gamma, 0.0, low_open=True)
    X = A.flatten(2).mT.double()  # (N, P, C)
    if X.numel() == 0:
        return A.sum(1)
    finite = torch.isfinite(X).flatten(1).all(1)
    X = torch.where(finite.view(-1, 1, 1), X, torch.zeros_like(X))
    if kernel == "rbf":
        K = (-scale * torch.cdist(X, X).square()).exp()
    else:
        K = X @ X.mT
        K = (scale * K + offset).tanh() if kernel == "sigmoid" else K
    K = K - K.mean(1, keepdim=True) - K.mean(2, keepdim=True) + K.mean((1, 2), keepdim=True)
    values, vectors = torch.linalg.eigh(K)
    projection = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
    reference = X.mean(2)
    along = (projection * (reference - reference.mean(1, keepdim=True))).sum(1, keepdim=True)
    projection = projection * torch.where(along < 0, -1.0, 1.0)
    projection = torch.where(finite[:, None], projection, torch.full_like(projection, math.nan))
    return projection.to(A.dtype).reshape(A.shape[0], *A.shape[2:])


def fem(A: Tensor, *, k: float = 2.0) -> Tensor:
    r"""FEM: rare, strong activations, found by a k-sigma rule. Needs no target.

    ``L = sum_c mean(A_c) [A_c >= mean(A_c) + k std(A_c)]`` over the channels c.

    Each channel becomes a binary map of the positions at least ``k`` standard deviations above its mean; the maps are
    summed with the channels' means as weights.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    k : float, default 2.0
        How many standard deviations (of the population) above the mean.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map. A constant channel counts nothing.

    Raises
    ------
    ValueError
        If the shape does not fit.

    References
    ----------
    Fuad et al., "Features understanding in 3D CNNs for actions recognition in video", IPTA 2020, hal-02963298.

    Examples
    --------
    >>> import torch
    >>> fem(torch.tensor([[[0.0, 0.0, 0.0, 8.0]]]), k=1.0)
    tensor([[0., 0., 0., 2.]])
    """
    A = _activations(A)
    k = check_interval("k", k, 0.0)
    axes = _spatial(A)
    mean = A.mean(axes, keepdim=True)
    deviation = (A - mean).square().mean(axes, keepdim=True).sqrt()
    varies = deviation > torch.finfo(A.dtype).eps * mean.abs()  # not only by rounding
    rare = (mean + k * deviation <= A) & varies
    return (mean * rare).sum(1)


def segxrescam(A: Tensor, g: Tensor, *, window: int = 2) -> Tensor:
    r"""Seg-XRes-CAM: between Grad-CAM and HiResCAM, gradients averaged over windows instead of the whole.

    ``L = sum_k up(pool(g_k)) A_k``.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations, of one to three spatial axes.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.
    window : int, default 2
        Side of the windows. 1 is HiResCAM; a window that covers the layer is Grad-CAM. Windows at the far edges are cut
        off, and average over what they cover.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map. The pooled gradients are brought back to the layer's size by repetition, so that a position is
        weighted by its own window.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Hasany, Petitjean, Meriaudeau, "Seg-XRes-CAM: explaining spatially local regions in image segmentation", CVPRW 2023,
    Eq. (4).

    Examples
    --------
    >>> import torch
    >>> A, g = torch.ones(1, 1, 4), torch.tensor([[[1.0, 3.0, 0.0, -2.0]]])
    >>> segxrescam(A, g, window=2)
    tensor([[ 2.,  2., -1., -1.]])
    """
    A, g = _pair(A, g)
    window = check_integer("window", window, minimum=1)
    if A.dim() > 5:
        raise ValueError(f"`A` must have one to three spatial axes; got shape {tuple(A.shape)}")
    for axis in _spatial(g):  # the mean over a box is separable
        side = min(window, g.shape[axis])
        line = g.movedim(axis, -1)
        padded = F.pad(line, (0, -line.shape[-1] % side))
        sums = padded.reshape(*padded.shape[:-1], padded.shape[-1] // side, side).sum(-1)
        sizes = torch.full((sums.shape[-1],), side, device=g.device)
        sizes[-1] = (line.shape[-1] - 1) % side + 1
        means = (sums / sizes).repeat_interleave(side, -1)[..., : line.shape[-1]]
        g = means.movedim(-1, axis)
    return _summed(A, g)


def shapleycam(A: Tensor, g: Tensor, hessian_A: Tensor) -> Tensor:
    r"""ShapleyCAM: Grad-CAM's weights with a second-order term.

    ``L = sum_k w_k A_k`` with ``w_k = mean(g_k - (H A)_k / 2)``.

    Parameters
    ----------
    A : Tensor of shape (N, C, \*S)
        Activations.
    g : Tensor of shape (N, C, \*S)
        Gradients of the scores with respect to them.
    hessian_A : Tensor of shape (N, C, \*S)
        The Hessian of the scores, times the activations.

    Returns
    -------
    Tensor of shape (N, \*S)
        The raw map: weights are the spatial means of ``g - hessian_A / 2``.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Cai, "CAMs as Shapley Value-based Explainers", arXiv:2501.06261: the second-order expansion of the utility of
    removing a part.

    Examples
    --------
    >>> import torch
    >>> shapleycam(torch.ones(1, 1, 2), torch.ones(1, 1, 2), torch.ones(1, 1, 2))
    tensor([[0.5000, 0.5000]])
    """
    A, g = _pair(A, g)
    _, second = _pair(A, hessian_A)
    return gradcam(A, g - 0.5 * second)
