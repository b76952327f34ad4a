"""The stacked hourglass network in both published layouts, with batch-norm folding for inference.

Each stack looks at the features at every scale (down to 1/16 of the heatmap, then up again), gives one heatmap a joint
and hands features and heatmaps on to the next stack. Every stack is supervised in training; the last one is the
prediction.

References
----------
.. [1] A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cvkit._checks import check_choice, check_instance, check_integer, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stem", "StackedHourglass", "fold_batch_norm"]

Stem = Literal["bearpaw", "newell"]
"""How the channels grow before the first stack: two published layouts whose weights don't fit each other."""

_LARGEST = 2**24  # bytes of the largest tensor inside a folded network


class Bottleneck(nn.Module):
    """Residual of three times batch norm, ReLU, convolution (1x1, 3x3, 1x1), plus the raw or projected input."""

    def __init__(self, channels: int, planes: int, out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, planes, 1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out, 1)
        self.downsample = None if channels == out else nn.Sequential(nn.Conv2d(channels, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same height and width."""
        y = self.conv1(F.relu(self.bn1(x), inplace=True))
        y = self.conv2(F.relu(self.bn2(y), inplace=True))
        y = self.conv3(F.relu(self.bn3(y), inplace=True))
        return _sum(y, x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    """One hourglass: at each level a branch that stays plus one that goes through half the resolution."""

    def __init__(self, depth: int, features: int, blocks: int) -> None:
        super().__init__()
        # hg[d][k]: level d, 0 the innermost; k = 0 the branch that stays, 1 after pooling, 2 before upsampling, and
        # 3 between those two at the innermost level.
        self.hg = nn.ModuleList(
            nn.ModuleList(_residuals(features, features, blocks) for _ in range(4 if d == 0 else 3))
            for d in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of `x`."""
        return self._level(len(self.hg) - 1, x)

    def _level(self, d: int, x: Tensor) -> Tensor:
        level = cast("nn.ModuleList", self.hg[d])
        stays = level[0](x)
        low = level[1](F.max_pool2d(x, 2))
        low = self._level(d - 1, low) if d else level[3](low)
        return _sum_doubled(stays, level[2](low))


class StackedHourglass(nn.Module):
    """A stack of hourglasses that gives one heatmap a joint at a quarter of the input's resolution.

    Parameter names follow the published ``"bearpaw"`` layout, so that a cleaned state dict of it loads as it is;
    `load_published` reads the other forms too.

    Parameters
    ----------
    joints : int, default 16
        Number of heatmaps J (for a codec with offsets, its number of channels).
    stacks : int, default 2
        Number of hourglasses S.
    depth : int, default 4
        How often one hourglass halves the resolution.
    features : int, default 256
        Channels inside the hourglasses; a multiple of 4.
    blocks : int, default 1
        Residual blocks at each place of an hourglass.
    channels : int, default 3
        Channels of the input.
    stem : {'bearpaw', 'newell'}, default 'bearpaw'
        Where the channels grow to `features` before the first stack: at the second or at the third residual.
    uneven : {'pad', 'refuse'}, default 'pad'
        What happens to inputs whose height or width is no multiple of ``4 * 2**depth``: zeros are added below and to
        the right and the heatmaps cut back to ``ceil(H / 4), ceil(W / 4)``, or a `ValueError` names the multiple.
    checkpointing : bool, default False
        Recompute each stack in the backward pass instead of keeping its activations (less memory, one more forward).
        Running statistics are still updated once.
    generator : torch.Generator, optional
        Source of the initial weights, on the CPU; by default a fresh one with seed 0. The global generator is not
        touched.

    Raises
    ------
    ValueError
        If a number is out of its range.
    TypeError
        If a number is no integer.

    Notes
    -----
    Called with a floating tensor ``(N, channels, H, W)`` it returns ``(N, S, J, H/4, W/4)``, in training and evaluation
    alike; ``network(x, last_only=True)`` keeps the last stack alone, ``(N, 1, J, H/4, W/4)``.

    References
    ----------
    .. [1] A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016, sections
       3.1-3.3.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import StackedHourglass
    >>> network = StackedHourglass(joints=16, stacks=1)
    >>> sum(p.numel() for p in network.parameters())
    3586960
    >>> small = StackedHourglass(joints=5, stacks=2, depth=2, features=16)
    >>> small(torch.zeros(3, 3, 64, 48)).shape
    torch.Size([3, 2, 5, 16, 12])
    """

    def __init__(
        self,
        joints: int = 16,
        *,
        stacks: int = 2,
        depth: int = 4,
        features: int = 256,
        blocks: int = 1,
        channels: int = 3,
        stem: Stem = "bearpaw",
        uneven: Literal["pad", "refuse"] = "pad",
        checkpointing: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.joints = check_integer("joints", joints, minimum=1)
        self.stacks = check_integer("stacks", stacks, minimum=1)
        self.depth = check_integer("depth", depth, minimum=1, maximum=8)
        self.features = check_integer("features", features, minimum=4)
        self.blocks = check_integer("blocks", blocks, minimum=1)
        self.channels = check_integer("channels", channels, minimum=1)
        self.stem: Stem = check_choice("stem", stem, ("bearpaw", "newell"))
        self.uneven = check_choice("uneven", uneven, ("pad", "refuse"))
        self.checkpointing = checkpointing
        if features % 4:
            raise ValueError(f"`features` must be a multiple of 4; got {features}")
        home = torch.get_default_device()
        with torch.device("meta"):  # nothing is drawn: the weights come from `generator` below
            self._build()
        if home.type != "meta":
            self.to_empty(device=home)
            self._initialise(generator)

    def _build(self) -> None:
        full, half, quarter, count = self.features, self.features // 2, self.features // 4, self.joints
        middle = full if self.stem == "bearpaw" else half
        self.conv1 = nn.Conv2d(self.channels, quarter, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(quarter)
        self.layer1 = _residuals(quarter, half, 1)
        self.layer2 = _residuals(half, middle, 1)
        self.layer3 = _residuals(middle, full, 1)
        stacks, between = range(self.stacks), range(self.stacks - 1)
        self.hg = nn.ModuleList(Hourglass(self.depth, full, self.blocks) for _ in stacks)
        self.res = nn.ModuleList(_residuals(full, full, self.blocks) for _ in stacks)
        self.fc = nn.ModuleList(nn.Sequential(nn.Conv2d(full, full, 1), nn.BatchNorm2d(full)) for _ in stacks)
        self.score = nn.ModuleList(nn.Conv2d(full, count, 1) for _ in stacks)
        self.fc_ = nn.ModuleList(nn.Conv2d(full, full, 1) for _ in between)
        self.score_ = nn.ModuleList(nn.Conv2d(count, full, 1) for _ in between)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator | None) -> None:
        """Fill all parameters and buffers: PyTorch's own rule for convolutions, drawn from `generator`."""
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                reset_convolution(module, generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    @property
    def multiple(self) -> int:
        """Sizes divisible by this need no padding."""
        return int(4 * 2**self.depth)

    @property
    def config(self) -> dict[str, int | str | bool]:
        """The arguments that build this network again, without its weights."""
        names = ("joints", "stacks", "depth", "features", "blocks", "channels", "stem", "uneven", "checkpointing")
        return {name: getattr(self, name) for name in names}

    def forward(self, images: Tensor, *, last_only: bool = False) -> Tensor:
        """Return heatmaps ``(N, S, J, H/4, W/4)``, or of the last stack alone, ``(N, 1, J, H/4, W/4)``."""
        height, width = self._check_input(images)
        at_once = self._images_at_once(images)
        if at_once is not None and at_once < len(images):
            return torch.cat([self.forward(some, last_only=last_only) for some in torch.split(images, at_once)])
        below, right = -height % self.multiple, -width % self.multiple
        x = F.pad(images, (0, right, 0, below)) if below or right else images
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(F.max_pool2d(self.layer1(x), 2)))
        scores = []
        for s in range(self.stacks):
            wanted = not last_only or s == self.stacks - 1
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x, score = self._recomputed_stage(s, x)
            else:
                x, score = self._stage(s, x, wanted=wanted)
            if wanted:
                scores.append(score)
        heatmaps = torch.stack(scores, dim=1)
        if below or right:
            heatmaps = heatmaps[..., : -(-height // 4), : -(-width // 4)]
        return heatmaps

    def _check_input(self, images: Tensor) -> tuple[int, int]:
        check_instance("images", images, Tensor)
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise ValueError(f"`images` must be (N, {self.channels}, H, W); got shape {tuple(images.shape)}")
        if not images.is_floating_point():
            raise TypeError(f"`images` must be floating-point; got {shown(images)}")
        height, width = images.shape[-2:]
        if not height or not width:
            raise ValueError(f"`images` must have at least one pixel; got shape {tuple(images.shape)}")
        if self.uneven == "refuse" and (height % self.multiple or width % self.multiple):
            raise ValueError(
                f"`images` must have a height and width that are multiples of {self.multiple}; got {height} x {width}"
            )
        return height, width

    def _images_at_once(self, images: Tensor) -> int | None:
        """Return how many pictures a folded network on the CPU should take at a time, None for all there are.

        The allocator gives tensors of 32 MiB and more back to the system, which clears their pages when they are asked
        for anew: eight pictures of 256 x 256 take a quarter longer at once than two by two, on two threads half as long
        again. What watches the layers, be it hooks, a graph, tracing or compiling, sees the whole batch.
        """
        folded = isinstance(self.bn1, nn.Identity)
        if not folded or images.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        if torch.jit.is_tracing() or _is_watched(self):  # type: ignore[attr-defined, no-untyped-call]
            return None
        height, width = images.shape[-2:]
        widest = self.features // 2 * (height // 2) * (width // 2) * images.element_size()  # behind the first residual
        return max(1, _LARGEST // max(1, widest))

    def _stage(self, s: int, x: Tensor, *, wanted: bool = True) -> tuple[Tensor, Tensor]:
        """Run stack `s`: the input of the next stack (for the last one its own features) and the heatmaps.

        A folded network hands heatmaps on inside `fc_`, so those that nobody `wanted` are not computed (empty).
        """
        y = self.res[s](self.hg[s](x))
        y = F.relu(self.fc[s](y), inplace=True)
        score = self.score[s](y) if wanted or len(self.score_) else y[:, :0]
        if s < self.stacks - 1:
            y = _sum(self.fc_[s](y), x)
            if len(self.score_):
                y = _sum(y, self.score_[s](score))
        return y, score

    def _recomputed_stage(self, s: int, x: Tensor) -> tuple[Tensor, Tensor]:
        result = checkpoint(
            self._stage,
            s,
            x,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing in a stack is random, and the global generator is not ours to read
            context_fn=lambda: (nullcontext(), _still_statistics(self.hg[s], self.res[s], self.fc[s])),
        )
        return cast("tuple[Tensor, Tensor]", result)


def _is_watched(network: nn.Module) -> bool:
    """Tell whether anything is called when a layer is."""
    everywhere = bool(nn.modules.module._has_any_global_hook())  # type: ignore[no-untyped-call]
    return everywhere or any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def _sum(fresh: Tensor, other: Tensor) -> Tensor:
    """Return the sum; in place where no graph is built, which saves a pass through new memory."""
    if torch.is_grad_enabled() or fresh.dtype != other.dtype:
        return fresh + other
    return fresh.add_(other)


def _sum_doubled(fresh: Tensor, low: Tensor) -> Tensor:
    """Return `fresh` plus `low` at twice its size, each pixel four times; in place where no graph is built."""
    if torch.is_grad_enabled() or fresh.dtype != low.dtype:
        return fresh + F.interpolate(low, scale_factor=2.0, mode="nearest")
    height, width = low.shape[-2:]
    fresh.view(*fresh.shape[:-2], height, 2, width, 2).add_(low[..., :, None, :, None])
    return fresh


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution for inference that always takes oneDNN on the CPU.

    PyTorch itself takes another kernel when it runs on one thread, which costs a fifth more on channels-last features.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of `x`."""
        fits = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32 and x.numel() > 0
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if plain or not fits or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return super().forward(x)
        return torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), (1, 1), (1, 1), 1)


def _residuals(channels: int, out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Bottleneck(channels if b == 0 else out, out // 2, out) for b in range(blocks)))


@torch.no_grad()
def reset_convolution(module: nn.Conv2d, generator: torch.Generator) -> None:
    """Draw a convolution's weights anew by PyTorch's default rule: uniform within 1 / sqrt(fan in)."""
    bound = float(module.weight[0].numel()) ** -0.5
    for parameter in (module.weight, module.bias):
        if parameter is not None:
            drawn = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(drawn.mul_(2.0).sub_(1.0).mul_(bound))


@contextmanager
def _still_statistics(*modules: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are: the recomputed forward must not count the same batch twice."""
    norms = [m for module in modules for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [dict(m.named_buffers(recurse=False)) for m in norms]
    try:
        for m, buffers in zip(norms, kept, strict=True):
            for name, value in buffers.items():
                setattr(m, name, value.clone())
        yield
    finally:
        for m, buffers in zip(norms, kept, strict=True):
            for name, value in buffers.items():
                setattr(m, name, value)


@torch.no_grad()
def fold_batch_norm(network: StackedHourglass) -> StackedHourglass:
    """Return a copy for inference whose batch norms are folded into convolutions, all of them.

    A norm that follows a convolution folds into it. The first one of a residual follows a sum; with the ReLU behind it
    it is ``relu(a x + b) = a clamp(x) + d``, whose scale and shift fold into the 1x1 convolution after it and leave a
    clamp between two bounds a channel. The layers that hand heatmaps on to the next stack fold too: with
    ``last_only=True`` only the last stack's heatmaps are computed. Outputs agree with ``network.eval()`` up to
    rounding. On CPUs it is fastest in channels-last format, ``folded.to(memory_format=torch.channels_last)`` with
    images in the same format; without a graph it goes through large batches there a few pictures at a time, so that its
    memory does not grow with the batch.

    Parameters
    ----------
    network : StackedHourglass
        Stays as it is.

    Returns
    -------
    StackedHourglass
        In eval mode, its parameters without gradients. It cannot be trained further and its state dict has fewer keys.

    Raises
    ------
    TypeError
        If `network` is no `StackedHourglass`, or a norm in it was replaced by something that is no batch norm.
    ValueError
        If a norm has no running statistics: in evaluation it would depend on the batch.

    Notes
    -----
    Layers that serve several places (tied weights) are folded for each place by itself. Batch norms without affine
    parameters and those that `torch.nn.SyncBatchNorm.convert_sync_batchnorm` made fold too.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import StackedHourglass, fold_batch_norm
    >>> network = StackedHourglass(3, stacks=1, depth=1, features=8).eval()
    >>> folded = fold_batch_norm(network)
    >>> x = torch.rand(1, 3, 16, 16)
    >>> torch.allclose(folded(x), network(x), atol=1e-5)
    True
    """
    check_instance("network", network, StackedHourglass)
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    _untie(folded)
    _fold(folded, "conv1", "bn1")
    for parent in list(folded.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Bottleneck):
                setattr(parent, name, _FoldedBottleneck(child))
    for pair in folded.fc:
        _fold(pair, "0", "1")
    if len(folded.score_):
        for onward, head, back in zip(folded.fc_, folded.score, folded.score_, strict=False):
            _fold_heatmaps(onward, head, back)
        folded.score_ = nn.ModuleList()
    for parent in list(folded.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and child.kernel_size == (1, 1):
                setattr(parent, name, _pointwise(child))
    return folded


def _untie(network: nn.Module) -> None:
    """Give every place layers and parameters of its own, since they fold by what lies around them."""
    seen: set[int] = set()
    for name in [name for name, _ in network.named_modules(remove_duplicate=False)]:
        module = network.get_submodule(name)
        if id(module) in seen:
            module = copy.deepcopy(module)
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, module)
        seen.add(id(module))
        for key, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen:
                setattr(module, key, nn.Parameter(parameter.clone(), requires_grad=False))
            seen.add(id(getattr(module, key)))


class _FoldedBottleneck(nn.Module):
    """A `Bottleneck` for inference without batch norms. Takes the block's convolutions and changes them."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        _fold(block, "conv1", "bn2")
        _fold(block, "conv2", "bn3")
        self.conv1, self.conv2, self.conv3, self.downsample = block.conv1, block.conv2, block.conv3, block.downsample
        scale, shift = _scale_and_shift("bn1", block.bn1)
        # relu(a x + b) is a max(x, -b / a) + b for a > 0 and a min(x, -b / a) + b for a < 0; where a is next to nothing
        # it is relu(b), whatever x.
        edge = -shift / scale
        dead = ~(edge.abs() < 1e30)
        scale, shift = torch.where(dead, 0.0, scale), torch.where(dead, shift.relu(), shift)
        low = torch.where((scale > 0) & ~dead, edge, -torch.inf)
        high = torch.where((scale < 0) & ~dead, edge, torch.inf)
        self.low, self.high = (nn.Buffer(bound.to(self.conv1.weight.dtype)[:, None, None]) for bound in (low, high))
        matrix = self.conv1.weight.double().flatten(1)
        assert self.conv1.bias is not None
        self.conv1.bias.add_(matrix @ shift)
        self.conv1.weight.copy_((matrix * scale)[:, :, None, None])
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same height and width."""
        y = self.conv1(torch.clamp(x, self.low, self.high))
        y = self.conv2(F.relu(y, inplace=True))
        y = self.conv3(F.relu(y, inplace=True))
        return _sum(y, x if self.downsample is None else self.downsample(x))


def _fold_heatmaps(onward: nn.Module, head: nn.Module, back: nn.Module) -> None:
    """Make ``onward(y) + back(head(y))`` one convolution, in place: `back` of `head` is linear in `y`."""
    assert isinstance(onward, nn.Conv2d)
    assert isinstance(head, nn.Conv2d)
    assert isinstance(back, nn.Conv2d)
    assert onward.bias is not None
    assert head.bias is not None
    assert back.bias is not None
    matrix = back.weight.double().flatten(1)
    onward.weight.add_((matrix @ head.weight.double().flatten(1))[:, :, None, None])
    onward.bias.add_(matrix @ head.bias.double() + back.bias)


def _pointwise(old: nn.Conv2d) -> _Pointwise:
    """Return `old` as a `_Pointwise` with the very same parameters."""
    new = _Pointwise(old.in_channels, old.out_channels, 1, device="meta")
    new.weight, new.bias = old.weight, old.bias
    return new.train(old.training)


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    """Fold ``parent.norm`` into ``parent.convolution`` in place and put an identity where the norm was."""
    bn = getattr(parent, norm)
    if isinstance(bn, nn.Identity):
        return  # folded before
    conv = cast("nn.Conv2d", getattr(parent, convolution))
    assert conv.bias is not None
    scale, shift = _scale_and_shift(norm, bn)
    conv.weight.copy_(conv.weight * scale[:, None, None, None])
    conv.bias.copy_(conv.bias * scale + shift)
    setattr(parent, norm, nn.Identity())


def _scale_and_shift(name: str, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a and b in float64 of what a batch norm does in evaluation, ``a x + b``."""
    if not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        raise TypeError(f"`network` must have batch norms to fold; got a {type(norm).__name__} as {name!r}")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            f"`network` must have batch norms with running statistics; got one without (`track_running_stats=False`) "
            f"as {name!r}"
        )
    weight, bias = (cast("Tensor | None", part) for part in (norm.weight, norm.bias))  # None without affine
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if weight is None else weight.double() * scale
    shift = -norm.running_mean * scale
    return scale, shift if bias is None else bias + shift
