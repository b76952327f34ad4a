"""Hypothesis strategies shared by all tests: small images of odd, unequal sizes and the numbers that go with them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SIDE = st.integers(1, 13)
SEEDS = st.integers(0, 2**31 - 1)
CHANNELS = st.sampled_from([None, 1, 2, 3, 4])


@st.composite
def arrays(draw, dtype=np.uint8, channels=CHANNELS, side=SIDE):
    """An image array ``(H, W)`` or ``(H, W, C)``; floats lie in [0, 1]."""
    shape = (draw(side), draw(side))
    count = draw(channels) if isinstance(channels, st.SearchStrategy) else channels
    shape = shape if count is None else (*shape, count)
    dtype = np.dtype(dtype)
    elements = None
    if dtype.kind == "f":
        elements = st.floats(0.0, 1.0, width=dtype.itemsize * 8)
    return draw(hnp.arrays(dtype, shape, elements=elements))


@st.composite
def random_images(draw, dtype=np.uint8, channels=CHANNELS, side=SIDE):
    """As `arrays`, filled from a seed: cheaper, and rich in different values."""
    shape = (draw(side), draw(side))
    count = draw(channels) if isinstance(channels, st.SearchStrategy) else channels
    shape = shape if count is None else (*shape, count)
    rng = np.random.default_rng(draw(SEEDS))
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
