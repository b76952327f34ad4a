"""Small models and a picture of a model's whole state, for the tests of `cvkit.explain`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SIZES = {1: (23,), 2: (11, 14), 3: (7, 8, 9)}


def seeded(model: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Give a model weights and statistics from a seed; the global random state is not used."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    fan = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 4
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2.0 / fan) ** 0.5)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                if module.weight is not None:
                    module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return model.to(dtype).eval()


class Net(nn.Module):
    """Two convolutions with in-place ReLU, batch norm, dropout, pooling and a linear head; of any rank."""

    def __init__(self, rank: int = 2, classes: int = 3, channels: int = 4, inplace: bool = True, head: str = "tensor"):
        super().__init__()
        self.conv1 = CONV[rank](3, channels, 3, padding=1)
        self.relu1 = nn.ReLU(inplace=inplace)
        self.conv2 = CONV[rank](channels, channels + 2, 3, stride=2, padding=1)
        self.norm = NORM[rank](channels + 2)
        self.relu2 = nn.ReLU(inplace=inplace)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(channels + 2, classes)
        self.kind = head

    def features(self, x):
        return self.relu2(self.norm(self.conv2(self.relu1(self.conv1(x)))))

    def forward(self, x):
        logits = self.head(self.dropout(self.features(x).flatten(2).mean(2)))
        if self.kind == "tuple":
            return logits, x.mean()
        if self.kind == "list":
            return [logits, {"aux": x}]
        if self.kind == "dict":
            return {"aux": x, "logits": logits}
        if self.kind == "namespace":
            return SimpleNamespace(loss=x.sum(), logits=logits)
        if self.kind == "dataclass":
            return Output(x.sum(), logits)
        return logits


@dataclass(frozen=True)
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


class MLPHead(nn.Module):
    """A convolution and a head that is not linear, so that methods differ."""

    def __init__(self, rank: int = 2, classes: int = 3):
        super().__init__()
        self.body = nn.Sequential(CONV[rank](3, 5, 3, padding=1), nn.ReLU(), CONV[rank](5, 6, 3, padding=1), nn.ReLU())
        self.tail = nn.Sequential(CONV[rank](6, 4, 3, stride=2), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, classes))

    def forward(self, x):
        return self.head(self.tail(self.body(x)).flatten(2).mean(2))


class Reused(nn.Module):
    """One convolution called twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.block(self.stem(x)))
        x = torch.relu(self.block(x[..., ::2, ::2]))
        return self.head(x.mean((2, 3)))


class TupleLayer(nn.Module):
    """A layer that returns a tuple, as recurrent and detection parts do."""

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            return 7, (y, {"shape": x.shape})

    def __init__(self):
        super().__init__()
        self.part = self.Part()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        _, (y, _) = self.part(x)
        return self.head(torch.relu(y).mean((2, 3)))


class Skip(nn.Module):
    """A skip connection around the explained layer that is joined by concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Conv2d(8, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        low = torch.relu(self.stem(x))
        both = torch.cat([low, torch.relu(self.inner(low))], 1)
        return self.head(torch.relu(self.out(both)).mean((2, 3)))


class OwnSize(nn.Module):
    """A head that reads the batch's size off the inputs; and, if it branches, looks at values."""

    def __init__(self, branches: bool = False):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 3)
        self.branches = branches

    def forward(self, x):
        pooled = self.pool(self.body(x)).view(x.size(0), -1)
        if self.branches and pooled.sum() < 0:
            return -self.head(pooled)
        return self.head(pooled)


def images(rank: int = 2, rows: int = 3, seed: int = 1, dtype: torch.dtype = torch.float32, size=None) -> torch.Tensor:
    """Random pictures."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((rows, 3, *(size or SIZES[rank])), generator=generator).to(dtype)


HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_load_state_dict_pre_hooks",
)  # fmt: skip


def state(model: nn.Module) -> dict:
    """Return everything that a call must leave as it was."""
    modules = list(model.named_modules())
    return {
        "modules": [(name, id(module), type(module)) for name, module in modules],
        "hooks": [(name, hook, list(getattr(module, hook).items())) for name, module in modules for hook in HOOKS],
        "training": [module.training for _, module in modules],
        "attributes": [sorted(vars(module)) for _, module in modules],
        "flags": [(name, id(p), p.requires_grad) for name, p in model.named_parameters()],
        "grads": [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        "parameters": [p.detach().clone() for p in model.parameters()],
        "buffers": [(name, id(b), b.clone()) for name, b in model.named_buffers()],
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
    }


def equal(a, b) -> bool:
    """Whether two states are the same bit for bit (NaN equal to NaN)."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a == b


def differences(before: dict, after: dict) -> list[str]:
    """Return the names of what changed."""
    return [name for name in before if not equal(before[name], after[name])]
