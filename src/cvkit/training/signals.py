"""SIGINT and SIGTERM as requests to stop after the current step."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["StopRequest", "stop_on_signals"]


@dataclass
class StopRequest:
    """The signal that asked for the end, once one has come."""

    signal: int | None = None

    def end(self) -> None:
        """End as the signal would have: KeyboardInterrupt for SIGINT, exit code 143 for SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of ending; a second one does what it did before.

    Outside the main thread, where Python allows no handlers, nothing is noted. The earlier handlers are back at the
    end.

    Yields
    ------
    StopRequest
        To look at between steps.

    Examples
    --------
    >>> with stop_on_signals() as request:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     request.signal == signal.SIGTERM
    True
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in earlier.items():
            # None: installed by other means than Python, which can't be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def note(number: int, _: FrameType | None) -> None:
        request.signal = number
        restore()

    for number, handler in earlier.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
