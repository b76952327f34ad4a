"""`layers`: which layers a model has on its way, and which of them can be explained."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from cvkit._checks import check_instance
from cvkit.explain._call import Call
from cvkit.explain._door import image_of, own_inputs
from cvkit.explain._forwards import usable_forward
from cvkit.explain._layers import named_layers
from cvkit.explain._resolution import select_logits
from cvkit.explain._setup import Setup, as_grid
from cvkit.explain._state import preserved, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit.explain.targets import Select, TargetLike
    from cvkit.explain.tokens import Tokens

__all__ = ["LayerInfo", "layers"]


class LayerInfo(NamedTuple):
    """One call of one layer.

    Attributes
    ----------
    name : str
        What `layer=` takes.
    kind : str
        The module's class.
    occurrence : int
        Which call of the layer, from 0: what `occurrence=` takes where there are several.
    shape : tuple of int
        The shape of its (first floating) output.
    grid : tuple of int
        Spatial size of the output, read as a map; empty where it is none.
    gradient : bool
        Whether the scores have a gradient there that is not zero.
    fits : bool
        Whether it can be explained: a grid of more than one position, with a gradient, and not the output itself.
    """

    name: str
    kind: str
    occurrence: int
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    gradient: bool
    fits: bool


def layers(
    model: nn.Module,
    inputs: Any,  # a tensor, or whatever `forward` takes
    /,
    *,
    target: TargetLike = None,
    tokens: Tokens | None = None,
    select: Select | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> list[LayerInfo]:
    r"""List the calls of a model's layers in one forward, in their order, with shapes and fitness.

    Keeps a graph of the whole forward. The model is left as it was, as by `explain`.

    Parameters
    ----------
    model : Module
        The model.
    inputs : Tensor of shape (N, C, \*S)
        A batch; one sample will do.
    target, tokens, select, forward
        As for `explain`.

    Returns
    -------
    list of LayerInfo
        One for each call that gave a floating tensor.

    Raises
    ------
    TypeError, ValueError
        As `explain`.

    Examples
    --------
    >>> import torch
    >>> from cvkit.explain import layers
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> for info in layers(model, torch.ones(1, 3, 7, 9)):
    ...     print(info.name, info.kind, info.grid, info.fits)
    0 Conv2d (5, 7) True
    1 AdaptiveAvgPool2d (1, 1) False
    2 Flatten () False
    """
    model = unwrap(check_instance("model", model, nn.Module, "a torch.nn.Module"))
    image = image_of(inputs)
    spatial = tuple(image.shape[2:])
    setup = Setup(
        model, usable_forward(model, forward), None, nullcontext, spatial, select=select, tokens=tokens
    )  # fmt: skip
    modules = named_layers(model)
    listed = []
    with preserved(model, image.device):
        own, own_image = own_inputs(inputs, image)
        call = Call(setup, own, own_image, target)
        survey = call.survey()
        logits = select_logits(call.output, select)
        for one, gradient in survey:
            grid = _grid(one.output, spatial, tokens, image.shape[0])
            is_output = (
                logits is not None and one.output.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr()
            )
            positions = 1
            for side in grid:
                positions *= side
            recurrent = isinstance(modules[one.name], nn.RNNBase)
            fits = bool(grid) and positions > 1 and gradient and not is_output and not recurrent
            kind = type(modules[one.name]).__name__
            listed.append(LayerInfo(one.name, kind, one.occurrence, tuple(one.output.shape), grid, gradient, fits))
    return listed


def _grid(output: Tensor, spatial: tuple[int, ...], tokens: Tokens | None, rows: int) -> tuple[int, ...]:
    """Return the spatial size of an output read as a map, or nothing."""
    if output.dim() < 3 or output.shape[0] != rows:
        return ()
    try:
        form = as_grid(output, spatial, tokens)
    except ValueError:
        return ()
    return tuple((output if form is None else form.to_grid(output)).shape[2:])
