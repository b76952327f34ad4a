from __future__ import annotations

import signal
import threading

import pytest

from cvkit import training


@pytest.fixture(autouse=True)
def _handlers():
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_does_what_it_did(number):
    seen = []
    signal.signal(number, lambda n, _: seen.append(n))
    with training.stop_on_signals() as request:
        signal.raise_signal(number)
        assert (request.signal, seen) == (number, [])
        signal.raise_signal(number)
        assert seen == [number]


@pytest.mark.parametrize("raises", [False, True])
def test_earlier_handlers_are_back_afterwards(raises):
    def own(*_):
        return None

    signal.signal(signal.SIGTERM, own)
    before = signal.getsignal(signal.SIGINT)
    try:
        with training.stop_on_signals():
            assert signal.getsignal(signal.SIGTERM) is not own
            if raises:
                raise OSError
    except OSError:
        pass
    assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with training.stop_on_signals() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.signal is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_install_nothing():
    before = signal.getsignal(signal.SIGINT)
    inside = []

    def work():
        with training.stop_on_signals() as request:
            inside.append((signal.getsignal(signal.SIGINT) is before, request.signal))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(True, None)]


def test_requests_end_as_the_signal_would():
    training.StopRequest().end()
    with pytest.raises(KeyboardInterrupt):
        training.StopRequest(signal.SIGINT).end()
    with pytest.raises(SystemExit) as caught:
        training.StopRequest(signal.SIGTERM).end()
    assert caught.value.code == 143
