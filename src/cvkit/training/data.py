"""Data sets held in memory, on the device where they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cvkit._checks import check_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvkit._types import ArrayLike

__all__ = ["InMemory"]


class InMemory:
    """Tensors with a common first axis, indexed on the device: the `fetch` of `Sampled` for data that fit in memory.

    Keep images as uint8 and scale them in the step function: a quarter of the memory and of the transfer.

    Parameters
    ----------
    tensors : mapping of str to Tensor or ndarray
        All of one length.
    device : torch.device or str, default "cpu"
        Where batches shall be. The data are held there if they take less than `share` of the free memory; otherwise
        they stay on the CPU in pinned memory and each batch is moved.
    share : float, default 0.5
        In [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> data = InMemory({"images": np.zeros((5, 8, 8), np.uint8), "labels": np.arange(5)})
    >>> batch = data(torch.tensor([4, 0]))
    >>> batch["images"].shape, batch["labels"]
    (torch.Size([2, 8, 8]), tensor([4, 0]))
    """

    def __init__(
        self, tensors: Mapping[str, ArrayLike], device: torch.device | str = "cpu", *, share: float = 0.5
    ) -> None:
        share = check_interval("share", share, 0.0, 1.0)
        self.device = torch.device(device)
        held = {name: _tensor(value) for name, value in tensors.items()}
        lengths = {name: len(value) for name, value in held.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"`tensors` must have one common length; got {lengths}")
        self.length = next(iter(lengths.values()))
        self.resident = self.device.type == "cpu" or _fits(held, self.device, share)
        if self.resident:
            self.tensors = {name: value.to(self.device) for name, value in held.items()}
        else:
            self.tensors = {name: value.cpu().pin_memory() for name, value in held.items()}  # pragma: cuda

    def __len__(self) -> int:
        return self.length

    def __call__(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the samples of these indices, on the device."""
        if self.resident:
            indices = indices.to(self.device, non_blocking=True)
        return {
            name: value.index_select(0, indices).to(self.device, non_blocking=True)
            for name, value in self.tensors.items()
        }


def _tensor(value: ArrayLike) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    # A read-only array can't be shared with torch without a warning.
    return torch.from_numpy(np.ascontiguousarray(value) if value.flags.writeable else value.copy())


def _fits(tensors: Mapping[str, torch.Tensor], device: torch.device, share: float) -> bool:  # pragma: cuda
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(value.numel() * value.element_size() for value in tensors.values()) < share * free
