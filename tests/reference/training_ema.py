"""Averaged parameters, one number at a time, from the definition."""

from __future__ import annotations


def average(history, decay):
    """``a_0 = p_0`` and ``a_t = decay a_{t-1} + (1 - decay) p_t`` for a list of lists of floats."""
    averaged = list(history[0])
    for values in history[1:]:
        averaged = [decay * a + (1.0 - decay) * p for a, p in zip(averaged, values, strict=True)]
    return averaged


def naive_update(average_module, module, decay):
    """The loop that most code writes: parameter by parameter, buffers copied."""
    for target, source in zip(average_module.parameters(), module.parameters(), strict=True):
        target.data.mul_(decay).add_(source.data, alpha=1.0 - decay)
    for target, source in zip(average_module.buffers(), module.buffers(), strict=True):
        target.copy_(source)
