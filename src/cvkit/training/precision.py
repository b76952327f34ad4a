"""Whether a device computes in bfloat16 by itself, and what that gains."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

__all__ = ["Bfloat16", "probe_bfloat16"]


class Bfloat16(NamedTuple):
    """What `probe_bfloat16` found.

    Attributes
    ----------
    native : bool
        Whether the device has instructions for bfloat16; without them it is emulated and slower than float32.
    speedup : float
        Measured: time of a convolution in float32, divided by its time under autocast. NaN where not measured.
    """

    native: bool
    speedup: float


def probe_bfloat16(device: torch.device | str = "cpu", *, measure: bool = False) -> Bfloat16:
    """Look whether bfloat16 is worth asking for.

    Parameters
    ----------
    device : torch.device or str, default "cpu"
        Where.
    measure : bool, default False
        Whether to time a convolution as well, which takes some tenths of a second.

    Returns
    -------
    Bfloat16
        Whether it is native, and the measured gain.

    Examples
    --------
    >>> probe_bfloat16("cpu").native in (True, False)
    True
    """
    device = torch.device(device)
    if device.type == "cpu":
        native = any(
            bool(getattr(torch.cpu, name, bool)()) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)  # pragma: cuda
    return Bfloat16(native, _speedup(device) if measure else float("nan"))


def _speedup(device: torch.device) -> float:
    images = torch.ones(16, 32, 32, 32, device=device).to(memory_format=torch.channels_last)
    kernel = torch.ones(32, 32, 3, 3, device=device)
    times = {}
    for enabled in (False, True):
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
                torch.nn.functional.conv2d(images, kernel).sum().item()
            best = min(best, time.perf_counter() - start)
        times[enabled] = best
    return times[False] / times[True]
