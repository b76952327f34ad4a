"""From what a user names to modules: dotted names, patterns, modules; and hooks that watch or edit their outputs."""

from __future__ import annotations

import difflib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.jit._trace import TopLevelTracedModule

from cvkit._checks import shown
from cvkit.explain._state import unwrap
from cvkit.explain._tree import first_tensor, replace_tensor

__all__ = ["LayerLike", "Visit", "named_layers", "nothing_found", "resolve_layers", "scripted_hint", "watched"]

LayerLike: TypeAlias = str | nn.Module
"""A dotted name, a pattern with ``*``, or the module itself."""

Visit: TypeAlias = Callable[[str, int, Tensor, tuple[Any, ...]], Tensor | None]
"""Called with (name, occurrence, output, inputs of the module); a tensor that is returned takes the output's place."""


def _plain(name: str) -> str:
    """Return a module's name without the segments that wrappers add."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _inside_scripted(model: nn.Module) -> set[nn.Module]:
    """Return the modules that run as TorchScript, where hooks on them do not fire."""
    inside: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            takes_hooks = isinstance(module, TopLevelTracedModule)
            inside.update(part for part in module.modules() if part is not module or not takes_hooks)
    return inside


def scripted_hint(model: nn.Module) -> str:
    """Return what to say of a model that is, in part, TorchScript or an exported program; nothing of others."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return ". Parts of the model are TorchScript, where hooks do not run: explain the module it was made from"
    if isinstance(model, torch.fx.GraphModule):
        return ". The model is a graph: an exported one calls no modules; explain the module it was made from"
    return ""


def nothing_found(model: nn.Module, zeros: int) -> str:
    """Return what to say where no layer fits, `zeros` of those with places for want of a gradient that is not zero."""
    why = (
        f". At the {zeros} calls that fit otherwise the scores have no gradient, or 0"
        if zeros
        else scripted_hint(model)
    )
    return (
        "no layer with more than one spatial position and a gradient was found in this forward; name one with `layer=` "
        f"(`layers(model, inputs)` lists them){why}"
    )


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return all submodules that take hooks by name; a shared module has its first name only.

    Wrappers of compiled modules are left out, and what runs as TorchScript.
    """
    layers: dict[str, nn.Module] = {}
    scripted = _inside_scripted(model)
    for name, module in model.named_modules():
        if name and "_orig_mod" not in module._modules and module not in scripted:
            layers.setdefault(_plain(name), module)
    return layers


def _aliases(model: nn.Module) -> dict[str, nn.Module]:
    """Return submodules by every name they have."""
    names: dict[str, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names[_plain(name)] = unwrap(module)
    return names


def _by_name(name: str, aliases: Mapping[str, nn.Module]) -> list[nn.Module]:
    """Return the modules that a name or a pattern stands for."""
    plain = _plain(name)
    for candidate in (plain, plain.removeprefix("module.")):  # `module.`: the prefix of parallel wrappers
        if candidate in aliases and candidate:
            return [aliases[candidate]]
    if any(sign in plain for sign in "*?["):
        found = [module for other, module in aliases.items() if other and fnmatchcase(other, plain)]
        if found:
            return found
        raise ValueError(f"`layer` {name!r} matches no layer of the model")
    close = difflib.get_close_matches(plain, filter(None, aliases), n=3, cutoff=0.4) or [*filter(None, aliases)][-3:]
    raise ValueError(f"`layer` {name!r} is not a layer of the model; close: {', '.join(map(repr, close))}")


def resolve_layers(model: nn.Module, layer: LayerLike | Sequence[LayerLike]) -> dict[str, nn.Module]:
    """Return {name: module} for what a user named, in the user's order."""
    wanted = [layer] if isinstance(layer, str | nn.Module) else layer
    if not isinstance(wanted, Sequence):
        raise TypeError(f"`layer` must be a name, a module or a sequence of them; got {shown(layer)}")
    if not wanted:
        raise ValueError("`layer` must name at least one layer; got an empty sequence")
    names = {id(module): name for name, module in named_layers(model).items()}
    aliases, scripted = _aliases(model), _inside_scripted(model)
    chosen: dict[str, nn.Module] = {}
    for item in wanted:
        if isinstance(item, str):
            modules = _by_name(item, aliases)
        elif isinstance(item, nn.Module):
            modules = [unwrap(item)]
        else:
            raise TypeError(f"`layer` must be a name, a module or a sequence of them; got {shown(item)}")
        for module in modules:
            if module in scripted:
                raise ValueError(f"`layer` {shown(item)} takes no hooks{scripted_hint(model)}")
            if id(module) not in names:
                raise ValueError(f"`layer` {type(module).__name__} is not a part of the model")
            chosen[names[id(module)]] = module
    return chosen


@contextmanager
def watched(modules: Mapping[str, nn.Module], visit: Visit) -> Iterator[None]:
    """Call `visit` for each call of the modules that gives a floating tensor, in this thread, until the block ends.

    Calls are counted from 0 for each name. If `visit` returns a tensor, it takes the place of the module's (first
    floating) output, inside tuples and dicts too.
    """
    owner = threading.get_ident()
    counts: Counter[str] = Counter()

    def hook_for(name: str) -> Callable[[nn.Module, tuple[Any, ...], object], object]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: object) -> object:
            if threading.get_ident() != owner:  # somebody else's plain forward of the same model
                return None
            tensor = first_tensor(output)
            if tensor is None:
                return None
            occurrence = counts[name]
            counts[name] += 1
            new = visit(name, occurrence, tensor, inputs)
            return None if new is None else replace_tensor(output, tensor, new)

        return hook

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(hook_for(name)).remove)
        yield
