"""Watching a run: how different the images of a class are, and a verdict from the log."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cvkit._checks import check_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cvkit.training import State

__all__ = ["diagnose", "monitor", "within_class_spread"]


@torch.no_grad()
def within_class_spread(fake: torch.Tensor, real: torch.Tensor, labels: torch.Tensor, *, classes: int) -> torch.Tensor:
    """Return how much generated images of a class differ from one another, relative to real ones of the same classes.

    The squared distance of each image to the mean of its class within the batch is summed, for both; the result is the
    square root of the ratio. About 1 is right; near 0 the generator draws one picture a class.

    Parameters
    ----------
    fake, real : Tensor of shape (N, C, H, W)
        Images of one range, both labelled by `labels`.
    labels : Tensor of shape (N,)
        Class indices.
    classes : int
        Number of classes.

    Returns
    -------
    Tensor
        Of shape (); NaN if the real images of each class are all equal, as when no class occurs twice.

    Examples
    --------
    >>> import torch
    >>> real = torch.tensor([0.0, 2.0, 5.0, 5.0]).view(4, 1, 1, 1)
    >>> fake = torch.tensor([0.0, 1.0, 3.0, 3.0]).view(4, 1, 1, 1)
    >>> within_class_spread(fake, real, torch.tensor([0, 0, 1, 1]), classes=2)
    tensor(0.5000)
    """
    member = F.one_hot(labels, classes).to(real.dtype)
    share = (member / member.sum(0).clamp_min(1.0)).T
    squares = []
    for images in (fake, real):
        flat = images.flatten(1).to(real.dtype)
        squares.append((flat - member @ (share @ flat)).square().sum())
    # Where each class occurs once, real images lie on their means up to rounding: nothing to compare with.
    return torch.where(squares[1] > 1e-6 * real.square().sum(), squares[0] / squares[1], math.nan).sqrt()


def diagnose(history: Sequence[Mapping[str, float]], *, window: int = 10) -> str | None:
    """Judge by its log whether a run has collapsed.

    Parameters
    ----------
    history : sequence of mapping
        Rows of the log, oldest first.
    window : int, default 10
        The newest rows that are judged; with fewer there is no verdict.

    Returns
    -------
    str or None
        What is wrong, or None. ``"collapse within classes"``: in all these rows the spread of generated images is below
        a tenth of the real ones'. ``"discriminator has won"``: its loss is between 0 and 0.001 in all these rows, so
        that the generator learns nothing; a critic, whose loss goes below 0, is never judged so.

    Examples
    --------
    >>> rows = [{"step": 50 * i, "spread": 0.02, "loss_discriminator": 0.4} for i in range(10)]
    >>> diagnose(rows)
    'collapse within classes'
    """
    window = check_integer("window", window, minimum=1)
    newest = history[-window:]
    if len(newest) < window:
        return None
    if all(row.get("spread", math.nan) < 0.1 for row in newest):
        return "collapse within classes"
    if all(0.0 <= row.get("loss_discriminator", math.nan) < 1e-3 for row in newest):
        return "discriminator has won"
    return None


def monitor(collapse: str) -> Callable[[State, Mapping[str, float]], str | None] | None:
    """Return what `cvkit.training.train` asks at every row: for ``"stop"`` the verdict, else None after one warning."""
    if collapse == "ignore":
        return None
    rows: list[Mapping[str, float]] = []
    told: set[str] = set()

    def watch(state: State, row: Mapping[str, float]) -> str | None:
        rows.append(row)
        verdict = diagnose(rows)
        if verdict is None or collapse == "stop":
            return verdict
        if verdict not in told:
            told.add(verdict)
            warnings.warn(f"step {state.step}: {verdict}", RuntimeWarning, stacklevel=5)
        return None

    return watch
