"""Losses on heatmaps, distributions and coordinates, with masks for unlabelled joints and supervision of every stack.

All functions take outputs ``(N, J, ...)`` or, with an axis of stacks, ``(N, S, J, ...)`` and targets without it; stacks
are summed (intermediate supervision). They work in float32 at least, inside autocast too, and give exactly 0, with a
graph, where nothing is labelled. A weight that is not above 0 counts as 0. Targets of joints of weight 0 may hold
anything, NaN too.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cvkit._checks import check_choice, check_instance, check_integer, check_interval, shown

__all__ = [
    "Normalize",
    "adaptive_wing",
    "coordinate_loss",
    "js_divergence",
    "kl_divergence",
    "masked_mse",
    "ohkm_mse",
    "variance_regularizer",
]

Normalize = Literal["labelled", "all"]
"""Divide by the number of labelled joints, or by that of all joints."""


def masked_mse(outputs: Tensor, heatmaps: Tensor, weights: Tensor, *, normalize: Normalize = "labelled") -> Tensor:
    """Return the mean squared error of the labelled joints' heatmaps, summed over stacks.

    Parameters
    ----------
    outputs : Tensor of shape (N, J, h, w) or (N, S, J, h, w)
        The network's heatmaps.
    heatmaps : Tensor of shape (N, J, h, w)
        The targets, the same for all stacks.
    weights : Tensor of shape (N, J)
        Weight of each joint, 0 where it has no label.
    normalize : {'labelled', 'all'}, default 'labelled'
        Divide by the sum of the weights, so that masked joints don't dilute the loss, or by N times J as several
        published training scripts do (with half of the joints masked, half of the loss).

    Returns
    -------
    Tensor
        A scalar in float32 or float64.

    Raises
    ------
    ValueError
        If shapes don't fit or `normalize` is unknown.

    References
    ----------
    .. [1] A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks", ECCV 2016, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import masked_mse
    >>> outputs, heatmaps = torch.ones(1, 2, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    >>> masked_mse(outputs, heatmaps, torch.tensor([[1.0, 0.0, 0.0]]))  # two stacks
    tensor(2.)
    """
    check_choice("normalize", normalize, ("labelled", "all"))
    stacks, target, weights = _prepare(outputs, heatmaps, weights)
    with _no_autocast(stacks):
        return labelled_mean(_squared(stacks, target).sum(1), weights, normalize)


def ohkm_mse(
    outputs: Tensor, heatmaps: Tensor, weights: Tensor, *, hardest: int = 8, normalize: Normalize = "labelled"
) -> Tensor:
    """Return the mean squared error of each sample's hardest joints (online hard key-point mining), summed over stacks.

    Parameters
    ----------
    outputs : Tensor of shape (N, J, h, w) or (N, S, J, h, w)
        The network's heatmaps.
    heatmaps : Tensor of shape (N, J, h, w)
        The targets.
    weights : Tensor of shape (N, J)
        Weight of each joint, 0 where it has no label.
    hardest : int, default 8
        How many joints of each sample and stack count; all where there are fewer.
    normalize : {'labelled', 'all'}, default 'labelled'
        Divide by the weight of the chosen joints, or by their number.

    Returns
    -------
    Tensor
        A scalar in float32 or float64.

    Raises
    ------
    ValueError
        If shapes don't fit or `hardest` is below 1.

    References
    ----------
    .. [1] Y. Chen et al., "Cascaded Pyramid Network for Multi-Person Pose Estimation", CVPR 2018, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import ohkm_mse
    >>> outputs = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    >>> ohkm_mse(outputs, torch.zeros(1, 3, 1, 1), torch.ones(1, 3), hardest=2)  # (4 + 9) / 2
    tensor(6.5000)
    """
    check_choice("normalize", normalize, ("labelled", "all"))
    hardest = check_integer("hardest", hardest, minimum=1)
    stacks, target, weights = _prepare(outputs, heatmaps, weights)
    with _no_autocast(stacks):
        each = weights[:, None]
        weighted = torch.where(each > 0, _squared(stacks, target) * each, 0.0)
        chosen, index = weighted.topk(min(hardest, weighted.shape[-1]), dim=-1)
        counted = weights[:, None].expand_as(weighted).gather(-1, index)
        count = counted.sum((0, 2)) if normalize == "labelled" else counted.new_full((1,), float(counted[:, 0].numel()))
        return (chosen.sum((0, 2)) / torch.where(count > 0, count, 1.0)).sum()


def adaptive_wing(
    outputs: Tensor,
    heatmaps: Tensor,
    weights: Tensor,
    *,
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
    focus: float = 10.0,
    normalize: Normalize = "labelled",
) -> Tensor:
    """Return the Adaptive Wing loss: steep for small errors where the target is high, flat on the background.

    Parameters
    ----------
    outputs : Tensor of shape (N, J, h, w) or (N, S, J, h, w)
        The network's heatmaps.
    heatmaps : Tensor of shape (N, J, h, w)
        The targets, in [0, 1].
    weights : Tensor of shape (N, J)
        Weight of each joint, 0 where it has no label.
    alpha, omega, epsilon, theta : float
        The paper's constants; alpha above 2.
    focus : float, default 10.0
        Pixels within one pixel of a target of at least 0.2 count ``1 + focus`` times (the paper's weighted loss map); 0
        for none.
    normalize : {'labelled', 'all'}, default 'labelled'
        As for `masked_mse`.

    Returns
    -------
    Tensor
        A scalar in float32 or float64.

    Raises
    ------
    ValueError
        If shapes don't fit or a constant is out of range.

    References
    ----------
    .. [1] X. Wang, L. Bo, L. Fuxin, "Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression", ICCV 2019,
       Eq. (3)-(6).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import adaptive_wing
    >>> outputs, one = torch.full((1, 1, 1, 1), 0.25), torch.ones(1, 1)
    >>> adaptive_wing(outputs, torch.zeros(1, 1, 1, 1), one)  # 14 ln(1 + 0.25^2.1)
    tensor(0.7417)
    """
    check_choice("normalize", normalize, ("labelled", "all"))
    check_interval("alpha", alpha, 2, low_open=True)
    for name, value in (("omega", omega), ("epsilon", epsilon), ("theta", theta)):
        check_interval(name, value, 0, low_open=True)
    check_interval("focus", focus, 0)
    stacks, target, weights = _prepare(outputs, heatmaps, weights)
    with _no_autocast(stacks):
        error = (stacks - target[:, None]).abs()
        power = alpha - target[:, None]
        ratio = torch.as_tensor(theta / epsilon, dtype=power.dtype, device=power.device)
        # Eq. (3)-(4): slope A and constant C join the two pieces at theta in value and slope.
        slope = omega / (1 + ratio**power) * power * ratio ** (power - 1) / epsilon
        constant = theta * slope - omega * torch.log1p(ratio**power)
        small = omega * torch.log1p((error / epsilon) ** power)
        loss = torch.where(error < theta, small, slope * error - constant)
        if focus > 0:  # Eq. (5)-(6), with a grey dilation of 3x3
            near = F.max_pool2d(target.flatten(0, 1)[:, None], 3, stride=1, padding=1).reshape(target.shape) >= 0.2
            loss = loss * (1 + focus * near[:, None])
        return labelled_mean(loss.mean((-2, -1)).sum(1), weights, normalize)


def kl_divergence(
    logits: Tensor, probabilities: Tensor, weights: Tensor, *, normalize: Normalize = "labelled"
) -> Tensor:
    """Return ``KL(target || softmax(logits))`` of the labelled joints, summed over stacks.

    Parameters
    ----------
    logits : Tensor of shape (N, J, ...) or (N, S, J, ...)
        Before the softmax over all axes after J: heatmaps or vectors.
    probabilities : Tensor of shape (N, J, ...)
        Targets that sum to 1 over those axes.
    weights : Tensor of shape (N, J)
        Weight of each joint, 0 where it has no label.
    normalize : {'labelled', 'all'}, default 'labelled'
        As for `masked_mse`.

    Returns
    -------
    Tensor
        A scalar in float32 or float64. Its gradient, softmax minus target, never vanishes where they differ.

    Raises
    ------
    ValueError
        If shapes don't fit.

    References
    ----------
    .. [1] Y. Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation", ECCV 2022,
       Eq. (4).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import kl_divergence
    >>> target = torch.tensor([[[1.0, 0.0]]])
    >>> kl_divergence(torch.zeros(1, 1, 2), target, torch.ones(1, 1))  # ln 2
    tensor(0.6931)
    """
    check_choice("normalize", normalize, ("labelled", "all"))
    stacks, target, weights = _prepare(logits, probabilities, weights)
    with _no_autocast(stacks):
        log_p = F.log_softmax(stacks.flatten(3), -1)
        q = target[:, None].flatten(3)
        return labelled_mean((torch.xlogy(q, q) - q * log_p).sum(-1).sum(1), weights, normalize)


def js_divergence(
    logits: Tensor, probabilities: Tensor, weights: Tensor, *, rescue: float = 0.05, normalize: Normalize = "labelled"
) -> Tensor:
    """Return the Jensen-Shannon divergence of softmax and target, with a share of KL that keeps its gradient alive.

    The plain divergence has no gradient left once the softmax is confidently wrong: nothing would pull a peak from the
    wrong place to the right one. The loss is ``(1 - rescue) JS + rescue KL(target || softmax)``, which is zero at the
    same place alone.

    Parameters
    ----------
    logits : Tensor of shape (N, J, ...) or (N, S, J, ...)
        Before the softmax over all axes after J.
    probabilities : Tensor of shape (N, J, ...)
        Targets that sum to 1 over those axes.
    weights : Tensor of shape (N, J)
        Weight of each joint, 0 where it has no label.
    rescue : float, default 0.05
        Share of KL, in [0, 1]; 0 gives the plain divergence.
    normalize : {'labelled', 'all'}, default 'labelled'
        As for `masked_mse`.

    Returns
    -------
    Tensor
        A scalar in float32 or float64.

    Raises
    ------
    ValueError
        If shapes don't fit or `rescue` lies outside [0, 1].

    References
    ----------
    .. [1] A. Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks", arXiv:1801.07372, Eq.
       (9).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import js_divergence
    >>> target = torch.tensor([[[0.5, 0.5]]])
    >>> js_divergence(torch.zeros(1, 1, 2), target, torch.ones(1, 1))
    tensor(0.)
    """
    check_choice("normalize", normalize, ("labelled", "all"))
    check_interval("rescue", rescue, 0, 1)
    stacks, target, weights = _prepare(logits, probabilities, weights)
    with _no_autocast(stacks):
        log_p = F.log_softmax(stacks.flatten(3), -1)
        p, q = log_p.exp(), target[:, None].flatten(3)
        log_m = ((p + q) / 2).clamp_min(torch.finfo(p.dtype).tiny).log()
        js = ((p * (log_p - log_m)).sum(-1) + (torch.xlogy(q, q) - q * log_m).sum(-1)) / 2
        kl = (torch.xlogy(q, q) - q * log_p).sum(-1)
        return labelled_mean(((1 - rescue) * js + rescue * kl).sum(1), weights, normalize)


def variance_regularizer(
    logits: Tensor, weights: Tensor, *, sigma: float = 1.0, normalize: Normalize = "labelled"
) -> Tensor:
    """Return the squared difference of softmax maps' variance on each axis from ``sigma^2``, summed over stacks.

    Parameters
    ----------
    logits : Tensor of shape (N, J, h, w) or (N, S, J, h, w)
        Heatmaps before the softmax.
    weights : Tensor of shape (N, J)
        Weight of each joint, 0 where it has no label.
    sigma : float, default 1.0
        Wanted standard deviation in map pixels.
    normalize : {'labelled', 'all'}, default 'labelled'
        As for `masked_mse`.

    Returns
    -------
    Tensor
        A scalar in float32 or float64.

    Raises
    ------
    ValueError
        If shapes don't fit or `sigma` is not positive.

    References
    ----------
    .. [1] A. Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks", arXiv:1801.07372, Eq.
       (7).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import variance_regularizer
    >>> variance_regularizer(torch.zeros(1, 1, 1, 3), torch.ones(1, 1), sigma=1.0)  # (2/3 - 1)^2 + (0 - 1)^2
    tensor(1.1111)
    """
    check_choice("normalize", normalize, ("labelled", "all"))
    check_interval("sigma", sigma, 0, low_open=True)
    check_instance("logits", logits, Tensor)
    if logits.ndim not in {4, 5}:
        raise ValueError(f"`logits` must be a tensor (N, J, h, w) or (N, S, J, h, w); got {shown(logits)}")
    shape = logits.shape if logits.ndim == 4 else (logits.shape[0], *logits.shape[2:])
    stacks, _, weights = _prepare(logits, logits.new_zeros(()).expand(shape), weights)
    with _no_autocast(stacks):
        spread = (map_variances(stacks) - sigma**2).square().sum(-1)
        return labelled_mean(spread.sum(1), weights, normalize)


def map_variances(logits: Tensor) -> Tensor:
    """Return the variances ``(..., 2)`` in x and y of softmaxed maps ``(..., h, w)``, in pixels squared."""
    p = logits.flatten(-2).softmax(-1).reshape(logits.shape)
    variances = []
    for other in (-2, -1):
        marginal = p.sum(other)
        steps = torch.arange(marginal.shape[-1], device=p.device, dtype=p.dtype)
        mean = (marginal * steps).sum(-1, keepdim=True)
        variances.append((marginal * (steps - mean) ** 2).sum(-1))
    return torch.stack(variances, -1)


def coordinate_loss(
    predicted: Tensor,
    keypoints: Tensor,
    weights: Tensor,
    *,
    kind: Literal["euclidean", "l1", "smooth_l1", "wing"] = "euclidean",
    scale: float = 1.0,
    normalize: Normalize = "labelled",
) -> Tensor:
    """Return a loss between places, for networks that give coordinates.

    Parameters
    ----------
    predicted : Tensor of shape (N, J, 2) or (N, S, J, 2)
        Places from the network.
    keypoints : Tensor of shape (N, J, 2)
        Where the joints are; values of joints of weight 0 (NaN too) are ignored.
    weights : Tensor of shape (N, J)
        Weight of each joint, 0 where it has no label.
    kind : {'euclidean', 'l1', 'smooth_l1', 'wing'}, default 'euclidean'
        Distance d; ``|dx| + |dy|``; the same, squared below `scale`; or the Wing loss with omega = 10 `scale`, epsilon
        = 2 `scale`.
    scale : float, default 1.0
        Where the last two change from near to far, in the unit of the coordinates.
    normalize : {'labelled', 'all'}, default 'labelled'
        As for `masked_mse`.

    Returns
    -------
    Tensor
        A scalar in float32 or float64 whose gradient is finite at distance 0 too.

    Raises
    ------
    ValueError
        If shapes don't fit, `kind` is unknown or `scale` is not positive.

    References
    ----------
    .. [1] Z.-H. Feng et al., "Wing Loss for Robust Facial Landmark Localisation with Convolutional Neural Networks",
       CVPR 2018, Eq. (5).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import coordinate_loss
    >>> coordinate_loss(torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2), torch.ones(1, 1))
    tensor(5.)
    """
    check_choice("kind", kind, ("euclidean", "l1", "smooth_l1", "wing"))
    check_choice("normalize", normalize, ("labelled", "all"))
    check_interval("scale", scale, 0, low_open=True)
    stacks, target, weights = _prepare(predicted, keypoints, weights, trailing=1)
    with _no_autocast(stacks):
        difference = torch.where((weights > 0)[:, None, :, None], stacks - target[:, None], 0.0)
        if kind == "euclidean":
            squared = difference.square().sum(-1)
            apart = squared > 0
            distance = torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)  # no infinite slope at 0
        elif kind == "l1":
            distance = difference.abs().sum(-1)
        elif kind == "smooth_l1":
            distance = F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none", beta=scale).sum(-1)
        else:
            omega, epsilon = 10 * scale, 2 * scale
            far = omega - omega * math.log1p(omega / epsilon)
            size = difference.abs()
            near_loss = omega * torch.log1p(torch.where(size < omega, size, 0.0) / epsilon)
            distance = torch.where(size < omega, near_loss, size - far).sum(-1)
        return labelled_mean(distance.sum(1), weights, normalize)


def _prepare(
    outputs: Tensor, targets: Tensor, weights: Tensor, trailing: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs with an axis of stacks, targets and weights, in float32 at least; complain if shapes don't fit."""
    for name, value in (("outputs", outputs), ("targets", targets), ("weights", weights)):
        if not isinstance(value, Tensor):
            raise TypeError(f"`{name}` must be a tensor; got {shown(value)}")
    if not outputs.is_floating_point():
        raise TypeError(f"`outputs` must be a floating-point tensor; got {shown(outputs)}")
    stacks = outputs[:, None] if outputs.ndim == targets.ndim else outputs
    fits = (
        stacks.ndim == targets.ndim + 1
        and targets.ndim >= 3
        and stacks.shape[:1] + stacks.shape[2:] == targets.shape
        and (trailing is None or targets.ndim == 2 + trailing)
    )
    if not fits:
        raise ValueError(
            f"`outputs` must have the targets' shape, {tuple(targets.shape)}, or that with an axis of stacks after the "
            f"first; got {tuple(outputs.shape)}"
        )
    if weights.shape != targets.shape[:2]:
        raise ValueError(f"`weights` must be (N, J), here {tuple(targets.shape[:2])}; got {tuple(weights.shape)}")
    dtype = torch.float64 if outputs.dtype == torch.float64 else torch.float32
    weights = torch.where(weights > 0, weights, 0).to(dtype)
    known = (weights > 0).reshape(weights.shape + (1,) * (targets.ndim - 2))
    return stacks.to(dtype), torch.where(known, targets.to(dtype), 0.0), weights


def _no_autocast(x: Tensor) -> torch.autocast:
    """Leave autocast: sums of thousands of squares need float32."""
    return torch.autocast(x.device.type, enabled=False)


def _squared(stacks: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of each map, ``(N, S, J)``: one pass for the difference, one for its square."""
    difference = (stacks - target[:, None]).flatten(3)
    squared: Tensor = torch.linalg.vecdot(difference, difference)
    return squared / difference.shape[-1]


def labelled_mean(per_joint: Tensor, weights: Tensor, normalize: Normalize) -> Tensor:
    """Average ``(N, J)`` by `weights`. Joints of weight 0 add nothing even where their loss is not finite."""
    counted = torch.where(weights > 0, per_joint * weights, 0.0)
    if normalize == "all":
        return counted.sum() / max(weights.numel(), 1)
    total = weights.sum()
    return counted.sum() / torch.where(total > 0, total, 1.0)
