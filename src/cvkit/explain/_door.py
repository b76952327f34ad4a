"""`explain`: a model, a batch, and where the model looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cvkit._checks import check_choice, check_instance, check_integer, shown
from cvkit.explain._call import Call
from cvkit.explain._forwards import PRECISIONS, Precision, autocast_factory, channels_last_forward, usable_forward
from cvkit.explain._layers import LayerLike, resolve_layers
from cvkit.explain._maps import FUSIONS, NORMALIZATIONS, Fusion, Normalization, fuse_maps, normalize_maps, per_sample
from cvkit.explain._resolution import select_logits
from cvkit.explain._setup import Attribution, LayerCall, Setup, grad_mode
from cvkit.explain._state import preserved, unwrap
from cvkit.explain._tree import first_tensor, map_tensors, replace_tensor, take_rows
from cvkit.explain.methods import resolve_method
from cvkit.explain.targets import Select, Target, TargetLike
from cvkit.explain.tokens import Tokens

if TYPE_CHECKING:
    from cvkit.explain._method import MapFunction, Method

__all__ = ["Explanation", "explain", "explain_many", "image_of", "own_inputs"]

_SEED = 0  # of the generator that is used where none is given


@dataclass(frozen=True)
class Explanation:
    r"""Where a model looked, for a batch of N samples.

    Attributes
    ----------
    maps : Tensor of shape (N, \*S)
        float32 in [0, 1], at the size asked for, on the inputs' device. Zeros where there is nothing to show.
    raw : Tensor of shape (N, \*S_layer), or a tuple of them
        Signed, before ReLU, resizing and normalisation; a tuple, in the order of `layer`, where several layers were
        asked for.
    attributions : Tensor of shape (N, C, \*S), or None
        Signed values of each input value, for methods that work on the input.
    logits : Tensor or None
        What the model put out: the selected tensor.
    scores : Tensor of shape (N,)
        The numbers that are explained.
    target : Tensor of shape (N,), or None
        Class indices; None where the target is a function.
    layer : tuple of str
        Names of the layers.
    degenerate : Tensor of shape (N,)
        bool: nothing to show. The raw map has no positive part worth the name (or no range, by the normalisation), or
        the map or the score is not finite.
    delta : Tensor of shape (N,), or None
        For methods with a completeness axiom (integrated gradients, FullGrad): how far the attributions' sum is from
        what it should be.
    """

    maps: Tensor
    raw: Tensor | tuple[Tensor, ...]
    attributions: Tensor | None = field(repr=False)
    logits: Tensor | None = field(repr=False)
    scores: Tensor
    target: Tensor | None
    layer: tuple[str, ...]
    degenerate: Tensor
    delta: Tensor | None = None

    def __repr__(self) -> str:
        shape = tuple(self.maps.shape)
        return f"Explanation(maps={shape}, layer={self.layer}, target={self.target}, degenerate={self.degenerate})"


def image_of(inputs: object) -> Tensor:
    """Return the tensor of the inputs that is explained: the first floating one with a spatial axis."""
    image = first_tensor(inputs, lambda tensor: tensor.is_floating_point() and tensor.dim() >= 3)
    if image is None:
        raise ValueError(
            f"`inputs` must hold a floating tensor (N, C, *S) with at least one spatial axis; got {shown(inputs)}"
        )
    return image


@dataclass(frozen=True)
class _Request:
    """A checked call of the door."""

    method: Method
    setup: Setup
    inputs: Any
    image: Tensor
    size: tuple[int, ...] | Literal["layer"]
    normalize: Normalization
    fuse: Fusion
    several: bool  # whether the caller named several layers
    seeds: tuple[int, ...]
    evaluate: bool


def _size_of(size: object, spatial: tuple[int, ...]) -> tuple[int, ...] | Literal["layer"]:
    """Return the size of the maps."""
    if isinstance(size, str) and size in ("input", "layer"):
        return spatial if size == "input" else "layer"
    if isinstance(size, str) or not isinstance(size, Sequence):
        raise TypeError(f"`size` must be 'input', 'layer' or a sequence of {len(spatial)} integers; got {shown(size)}")
    if len(size) != len(spatial):
        raise ValueError(f"`size` must be 'input', 'layer' or {len(spatial)} integers; got {shown(size)}")
    return tuple(check_integer(f"size[{i}]", side, minimum=1) for i, side in enumerate(size))


def _seeds(method: Method, rows: int, generator: torch.Generator | None) -> tuple[int, ...]:
    """Return one seed a sample; only methods with randomness advance the generator."""
    if not method.traits.random:
        return ()
    if generator is None:
        generator = torch.Generator().manual_seed(_SEED)
    drawn = [int(torch.randint(2**62, (), generator=generator, device=generator.device)) for _ in range(rows)]
    return tuple(drawn)


def _request(
    model: nn.Module,
    inputs: Any,
    *,
    method: str | Method | MapFunction,
    layer: LayerLike | Sequence[LayerLike] | None,
    normalize: Normalization | None,
    size: Literal["input", "layer"] | Sequence[int],
    fuse: Fusion | None,
    tokens: Tokens | None,
    select: Select | None,
    forward: Callable[[nn.Module, Any], Any] | None,
    occurrence: int | None,
    mode: Literal["eval", "as-is"],
    chunk: int | None,
    precision: Precision | None,
    differentiable: bool,
    generator: torch.Generator | None,
    progress: bool,
) -> _Request:
    """Check everything that a caller gave."""
    model = unwrap(check_instance("model", model, nn.Module, "a torch.nn.Module"))
    chosen = resolve_method(method)
    image = image_of(inputs)
    traits = chosen.traits
    if fuse is not None:
        check_choice("fuse", fuse, FUSIONS)
    check_choice("mode", mode, ("eval", "as-is"))
    if normalize is not None:
        check_choice("normalize", normalize, NORMALIZATIONS)
    if precision is not None:
        check_choice("precision", precision, tuple(PRECISIONS))
    if chunk is not None:
        chunk = check_integer("chunk", chunk, minimum=1)
    if tokens is not None:
        check_instance("tokens", tokens, Tokens)
    if occurrence is not None:
        occurrence = check_integer("occurrence", occurrence)
    for name, function in (("select", select), ("forward", forward)):
        if function is not None and not callable(function):
            raise TypeError(f"`{name}` must be a function; got {shown(function)}")
    if generator is not None:
        check_instance("generator", generator, torch.Generator, "a torch.Generator")
    if differentiable and not traits.differentiable:
        raise ValueError(
            f"`differentiable` is not for {type(chosen).__name__}: its maps come from scores without a graph"
        )
    if layer is not None and not traits.layered:
        raise ValueError(f"`layer` is not for {type(chosen).__name__}, which works on the input; got {shown(layer)}")
    layers = None if layer is None else resolve_layers(model, layer)
    spatial = tuple(image.shape[2:])
    setup = Setup(
        model=model,
        forward=usable_forward(model, forward),
        layers=layers if traits.layered else {},
        autocast=autocast_factory(image.device, precision),
        spatial=spatial,
        layer_count=traits.layer_count,
        select=select,
        tokens=tokens,
        occurrence=occurrence,
        chunk=chunk,
        differentiable=bool(differentiable),
        progress=bool(progress),
        gradient=traits.gradient,
        many=channels_last_forward(model, forward, image),
    )
    several = layer is not None and not isinstance(layer, str | nn.Module)
    return _Request(
        method=chosen, setup=setup, inputs=inputs, image=image, size=_size_of(size, spatial),
        normalize=normalize or traits.normalize, fuse=fuse or traits.fuse, several=several,
        seeds=_seeds(chosen, image.shape[0], generator), evaluate=mode == "eval",
    )  # fmt: skip


@dataclass
class _Found:
    """What one slice of the batch gave."""

    attribution: Attribution
    logits: Tensor | None
    scores: Tensor
    index: Tensor | None
    calls: tuple[LayerCall, ...]


def own_inputs(inputs: Any, image: Tensor, *, differentiable: bool = False) -> tuple[Any, Tensor]:
    """Return inputs that no graph of the caller's and no inference mode clings to."""

    def freed(tensor: Tensor) -> Tensor:
        if tensor.is_inference():
            return tensor.clone()
        return tensor if differentiable else tensor.detach()

    own_image = freed(image)
    rest = replace_tensor(inputs, image, own_image) if own_image is not image else inputs
    return map_tensors(lambda tensor: tensor if tensor is own_image else freed(tensor), rest), own_image


def _attribute(method: Method, call: Call) -> _Found:
    """Let the method work on a call, and take what is kept of it."""
    with grad_mode(call.setup.differentiable):
        attribution = method.attribute(call)
    scores, logits = call.scores, select_logits(call.output, call.setup.select)
    if not call.setup.differentiable:
        scores, logits = scores.detach(), None if logits is None else logits.detach()
        raw = tuple(one.detach() for one in attribution.raw)
        attributions = None if attribution.attributions is None else attribution.attributions.detach()
        delta = None if attribution.delta is None else attribution.delta.detach()
        attribution = Attribution(raw, attributions, delta)
    return _Found(attribution, logits, scores, call.resolved.index, call.calls or ())


def _slices(request: _Request, target: TargetLike) -> list[tuple[int, int]]:
    """Return the parts of the batch that are explained one after the other."""
    rows, chunk = request.image.shape[0], request.setup.chunk
    whole = callable(target) and not isinstance(target, Target)
    if chunk is None or rows <= chunk or whole:
        return [(0, rows)]
    return [(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]


def _target_rows(target: TargetLike, start: int, stop: int, rows: int) -> TargetLike:
    """Return the target of a part of the batch."""
    if (start, stop) == (0, rows) or target is None or isinstance(target, int):
        return target
    if isinstance(target, Target):
        return target.rows(start, stop)
    if not isinstance(target, Tensor | Sequence | np.ndarray) or np.ndim(target) == 0:
        return target
    if len(target) != rows:
        raise ValueError(f"`target` must have one class for each of the {rows} samples; got {len(target)}")
    return target[start:stop]


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Return parts of a batch as one tensor; None if they have none."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    if len(present) == 1:
        return present[0]
    return torch.cat(present) if all(part.dim() for part in present) else present[0]


def _explanation(request: _Request, found: Sequence[_Found]) -> Explanation:
    """Turn what was found into maps."""
    count = len(found[0].attribution.raw)
    if len({tuple(one.calls) for one in found}) > 1:
        raise ValueError("parts of the batch have different last layers with a gradient; name one with `layer=`")
    raw = tuple(_present(_joined([one.attribution.raw[i] for one in found])) for i in range(count))
    sizes = {tuple(one.shape[1:]) for one in raw}
    if request.size == "layer" and len(sizes) > 1:
        raise ValueError(f"`size` 'layer' needs layers of one size; got {', '.join(map(str, sorted(sizes)))}")
    size = tuple(raw[0].shape[1:]) if request.size == "layer" else request.size
    scores = _present(_joined([one.scores for one in found]))
    lost = ~torch.isfinite(scores.detach())  # a score that is no number explains nothing
    told = [torch.where(per_sample(lost, one), torch.nan, one) for one in raw]
    shown_maps = [normalize_maps(one, size, request.normalize) for one in told]
    maps = fuse_maps([one for one, _ in shown_maps], request.fuse, rescale=request.normalize != "none")
    nothing = torch.stack([degenerate for _, degenerate in shown_maps]).all(0)
    return Explanation(
        maps=maps.float(),
        raw=raw if request.several or count > 1 else raw[0],
        attributions=_joined([one.attribution.attributions for one in found]),
        logits=_joined([one.logits for one in found]),
        scores=scores,
        target=_joined([one.index for one in found]),
        layer=tuple(call.name for call in found[0].calls),
        degenerate=nothing,
        delta=_joined([one.attribution.delta for one in found]),
    )


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _run(request: _Request, targets: Sequence[TargetLike]) -> list[Explanation]:
    """Explain each target, with one forward for all of them where the method needs no other."""
    setup, image = request.setup, request.image
    rows = image.shape[0]
    found: list[list[_Found]] = [[] for _ in targets]
    with (
        preserved(setup.model, image.device, evaluate=request.evaluate),
        torch.autocast(image.device.type, enabled=False) if setup.autocast is not nullcontext else nullcontext(),
    ):
        inputs, image = own_inputs(request.inputs, image, differentiable=setup.differentiable)
        shared = all(not callable(target) or isinstance(target, Target) for target in targets)
        slices = _slices(request, targets[0]) if shared else [(0, rows)]
        for start, stop in slices:
            part, part_image, method = inputs, image, request.method
            if (start, stop) != (0, rows):
                part_image = image[start:stop]
                method = method.rows(start, stop, image)
                part = take_rows(replace_tensor(inputs, image, part_image), start, stop, rows)
            call: Call | None = None
            for i, target in enumerate(targets):
                aim = _target_rows(target, start, stop, rows)
                if call is None:
                    seeds = request.seeds[start:stop]
                    call = Call(setup, part, part_image, aim, seeds, retain=len(targets) > 1)
                else:
                    call = call.aimed(aim)
                found[i].append(_attribute(method, call))
        with grad_mode(setup.differentiable):
            return [_explanation(request, one) for one in found]


def explain(
    model: nn.Module,
    inputs: Any,  # a tensor, or whatever `forward` takes
    /,
    *,
    method: str | Method | MapFunction = "gradcam",
    target: TargetLike = None,
    layer: LayerLike | Sequence[LayerLike] | None = None,
    normalize: Normalization | None = None,
    size: Literal["input", "layer"] | Sequence[int] = "input",
    fuse: Fusion | None = None,
    tokens: Tokens | None = None,
    select: Select | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    occurrence: int | None = None,
    mode: Literal["eval", "as-is"] = "eval",
    chunk: int | None = None,
    precision: Precision | None = None,
    differentiable: bool = False,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Explanation:
    r"""Explain what a model's output owes to the parts of its input.

    The model is as before when the call returns, and when it raises: hooks, training and ``requires_grad`` flags,
    gradients, buffers, grad mode and the global random states. It works with frozen parameters, under ``no_grad``,
    ``inference_mode`` and autocast, with compiled models, and from several threads at once (calls on one model wait for
    each other).

    Parameters
    ----------
    model : Module
        The model. `DataParallel` and compiled wrappers are looked through.
    inputs : Tensor of shape (N, C, \*S)
        The batch, of one to three spatial axes; or, with `forward`, anything that holds such a tensor.
    method : str, method object or callable, default 'gradcam'
        A name from `METHODS`, an object such as ``GradCAM()``, or a function of activations and gradients (N, C, \*S)
        that returns raw maps (N, \*S).
    target : int, Tensor of shape (N,), sequence of int or callable, optional
        What is explained: a class, one class a sample, or a function of the output that returns (N,) (see `Target`).
        Without it the predicted class, or the predicted side of a one-logit classifier.
    layer : str, Module or sequence of them, optional
        Names (patterns with ``*`` too) or modules. Without it the last call of this forward that has more than one
        position, is not the output and has a gradient that is not zero. Finding it keeps a graph of the whole forward:
        it takes about the memory of a training step. A named layer costs a plain forward and the backward pass of what
        lies above the layer.
        Behind a ReLU every method has something to show; at signed activations, such as a batch norm's, Grad-CAM++,
        XGrad-CAM, EigenCAM, FEM, and Score-CAM and its relatives, which add channels up, may find nothing.
    normalize : {'max', 'minmax', 'abs', 'percentile', 'none'}, optional
        How raw maps are brought to [0, 1]; without it the method's own way. ``"none"`` only resizes, and keeps the
        sign and the scale, also where several layers become one.
    size : {'input', 'layer'} or sequence of int, default 'input'
        Size of the maps.
    fuse : {'mean', 'max', 'product', 'tanh-max'}, optional
        How the maps of several layers become one, after each is normalised; without it the method's own way, which is
        the mean but for LayerCAM and RefineCAM.
    tokens : Tokens, optional
        How activations hold a grid, for transformers; without it, token sequences are read by the input's size and a
        square patch, and activations as channels-last where their shape can be nothing else.
    select : callable, optional
        Picks the logits out of the model's output; without it `.logits`, then ``["logits"]``, then the first floating
        tensor.
    forward : callable, optional
        ``forward(model, inputs)`` runs a model with another signature.
    occurrence : int, optional
        Which call of a named layer that is called more than once: from 0, or from the end if negative.
    mode : {'eval', 'as-is'}
        Whether the model runs in eval mode, or with each module's flag as it is. Where a batch norm uses the statistics
        of its batch, altered copies go through the model one whole batch at a time.
    chunk : int, optional
        The largest number of samples, altered copies included, that go through the model at once. With a plain function
        as `target`, the batch stays together.
    precision : {'bf16', 'fp16'}, optional
        Run the model under autocast of this type; maps are computed in float32 all the same.
    differentiable : bool, default False
        Whether maps carry a graph to parameters and inputs, for use in a loss. It costs a whole graph and double
        backward. The noise of methods that draw some, and the range it is measured by, are held fixed.
    generator : torch.Generator, optional
        For methods that draw random numbers; without it a fresh one with seed 0.
    progress : bool, default False
        Whether methods that take many passes show a progress bar.

    Returns
    -------
    Explanation
        Maps in [0, 1], raw maps, logits, target and layer names.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If an argument is out of range, a layer is not found or not called, or the scores do not depend on it.

    Examples
    --------
    >>> import torch
    >>> from cvkit.explain import explain
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3),
    ...     torch.nn.ReLU(),
    ...     torch.nn.AdaptiveAvgPool2d(1),
    ...     torch.nn.Flatten(),
    ...     torch.nn.Linear(4, 2),
    ... )
    >>> result = explain(model, torch.ones(2, 3, 8, 10), target=1)
    >>> result.maps.shape, result.layer
    (torch.Size([2, 8, 10]), ('1',))
    """
    request = _request(
        model, inputs, method=method, layer=layer, normalize=normalize, size=size, fuse=fuse, tokens=tokens,
        select=select, forward=forward, occurrence=occurrence, mode=mode, chunk=chunk, precision=precision,
        differentiable=differentiable, generator=generator, progress=progress,
    )  # fmt: skip
    return _run(request, [target])[0]


def explain_many(
    model: nn.Module,
    inputs: Any,  # a tensor, or whatever `forward` takes
    targets: Sequence[TargetLike],
    /,
    *,
    method: str | Method | MapFunction = "gradcam",
    layer: LayerLike | Sequence[LayerLike] | None = None,
    normalize: Normalization | None = None,
    size: Literal["input", "layer"] | Sequence[int] = "input",
    fuse: Fusion | None = None,
    tokens: Tokens | None = None,
    select: Select | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    occurrence: int | None = None,
    mode: Literal["eval", "as-is"] = "eval",
    chunk: int | None = None,
    precision: Precision | None = None,
    differentiable: bool = False,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> list[Explanation]:
    r"""Explain several targets of one forward.

    As a loop of `explain` over the targets, but methods that only need activations and gradients run the model once.
    Without `layer`, the layer is found for the first target and serves all.

    Parameters
    ----------
    model : Module
        The model.
    inputs : Tensor of shape (N, C, \*S)
        The batch.
    targets : sequence
        Targets, each as for `explain`.
    method, layer, normalize, size, fuse, tokens, select, forward, occurrence, mode, chunk, precision, differentiable,
    generator, progress
        As for `explain`.

    Returns
    -------
    list of Explanation
        One for each target.

    Raises
    ------
    TypeError, ValueError
        As `explain`.

    Examples
    --------
    >>> import torch
    >>> from cvkit.explain import explain_many
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3),
    ...     torch.nn.ReLU(),
    ...     torch.nn.AdaptiveAvgPool2d(1),
    ...     torch.nn.Flatten(),
    ...     torch.nn.Linear(4, 2),
    ... )
    >>> dog, cat = explain_many(model, torch.ones(1, 3, 8, 10), [0, 1])
    >>> dog.target, cat.target
    (tensor([0]), tensor([1]))
    """
    check_instance("targets", targets, Sequence, "a sequence of targets")  # type: ignore[type-abstract]
    if not targets:
        raise ValueError("`targets` must hold at least one target; got none")
    request = _request(
        model, inputs, method=method, layer=layer, normalize=normalize, size=size, fuse=fuse, tokens=tokens,
        select=select, forward=forward, occurrence=occurrence, mode=mode, chunk=chunk, precision=precision,
        differentiable=differentiable, generator=generator, progress=progress,
    )  # fmt: skip
    return _run(request, list(targets))
