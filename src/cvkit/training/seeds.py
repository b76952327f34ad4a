"""Random generators that depend on nothing but (seed, step, purpose).

A generator is made anew for every step and every purpose by hashing the three, as the counter-based rule of EDM2 does
with (seed, rank, images seen). No state of a generator has to be stored: a resumed run draws what the unbroken run
would have drawn. Draws are made for the whole global batch and each process takes its slice, so that runs agree across
numbers of processes.
"""

from __future__ import annotations

import hashlib

import torch

from cvkit._checks import check_instance, check_integer

__all__ = ["derive_seed", "generator"]


def derive_seed(seed: int, step: int, purpose: str) -> int:
    """Hash (seed, step, purpose) to a seed of 63 bits.

    Parameters
    ----------
    seed : int
        Seed of the run, any integer.
    step : int
        Number of the step, at least 0.
    purpose : str
        What the numbers are for, such as ``"latents"``. Two purposes have unrelated streams.

    Returns
    -------
    int
        In [0, 2**63).

    Examples
    --------
    >>> derive_seed(0, 7, "latents") == derive_seed(0, 7, "latents")
    True
    >>> derive_seed(0, 7, "latents") == derive_seed(0, 8, "latents")
    False
    """
    seed = check_integer("seed", seed)
    step = check_integer("step", step, minimum=0)
    check_instance("purpose", purpose, str)
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, step: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator that belongs to (seed, step, purpose).

    Parameters
    ----------
    seed : int
        Seed of the run.
    step : int
        Number of the step, at least 0.
    purpose : str
        What the numbers are for.
    device : torch.device or str, default "cpu"
        Where the numbers will be drawn. The same seed gives other numbers on another kind of device.

    Returns
    -------
    torch.Generator
        A new generator; the global one is neither read nor moved.

    Examples
    --------
    >>> import torch
    >>> a = torch.randn(3, generator=generator(0, 12, "noise"))
    >>> b = torch.randn(3, generator=generator(0, 12, "noise"))
    >>> torch.equal(a, b)
    True
    """
    made = torch.Generator(device=device)
    made.manual_seed(derive_seed(seed, step, purpose))
    return made
