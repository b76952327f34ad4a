from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cvkit.imgops import Lut, gamma, levels, posterize
from strategies import SEEDS, arrays, random_images

CURVES = {
    "gamma": Lut.gamma(1.8, 0.9),
    "levels": Lut.levels(0.1, 0.7, 0.6, 0.2, 0.9),
    "curve": Lut.curve([(0, 0.2), (0.3, 0.3), (0.6, 0.9), (1, 1)]),
    "log": Lut.log(),
    "log-inverse": Lut.log(inverse=True),
    "sigmoid": Lut.sigmoid(0.4, 7),
    "invert": Lut.invert(),
    "posterize": Lut.posterize(5),
    "solarize": Lut.solarize(0.6),
    "threshold": Lut.threshold(0.3),
    "table": Lut.from_table(np.sort(np.random.default_rng(0).random(256))),
}
MONOTONE = [name for name in CURVES if name not in {"invert", "solarize"}]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(CURVES, CURVES)))
def test_joined_curves_are_one_after_the_other_rounded_once(first, second):
    a, b = CURVES[second], CURVES[first]
    x = np.linspace(0, 1, 256)[None]
    np.testing.assert_allclose((a @ b)(x), a(b(x)), atol=1e-12)
    image = np.arange(256, dtype=np.uint8)[None]
    exact = (a @ b)(x)[0] * 255
    assert np.abs((a @ b)(image)[0] - exact).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("name", CURVES)
def test_tables_integers_floats_and_tensors_agree(name):
    lut = CURVES[name]
    table = lut.table(256)
    assert table.shape == (1, 256)
    assert table.min() >= 0
    assert table.max() <= 1
    x = np.linspace(0, 1, 256)[None]
    np.testing.assert_allclose(lut(x), table, atol=1e-12)
    np.testing.assert_allclose(lut(torch.from_numpy(x)).numpy(), table, atol=1e-12)
    image = np.arange(256, dtype=np.uint8)[None]
    assert (lut(image) == np.floor(table * 255 + 0.5 + 1e-9)).all()
    wide = np.arange(65536, dtype=np.uint16)[None]
    assert (lut(wide) == np.floor(lut.table(65536) * 65535 + 0.5 + 1e-9)).all()


@pytest.mark.parametrize("name", MONOTONE)
def test_monotone_tables(name):
    assert (np.diff(CURVES[name].table(1001)) >= -1e-15).all()


@given(arrays(np.float32, None))
def test_the_empty_curve_changes_nothing(image):
    assert (Lut()(image) == image).all()
    assert (Lut() @ Lut.invert()).table(3).tolist() == [[1.0, 0.5, 0.0]]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float32", "float64"])
def test_gamma_one_is_the_identity(dtype):
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    image = (np.linspace(0, 1, 999)[None] * top).astype(dtype)
    assert (Lut.gamma(1)(image) == image).all()


def test_halves_go_up():
    # 10 / 100 of 255 is 25.5 exactly, which float64 misses.
    image = np.arange(101, dtype=np.uint8)[None]
    out = levels(image, white=100)[0]
    assert out.tolist() == [(v * 510 + 100) // 200 for v in range(101)]


@given(SEEDS)
def test_integer_tables_are_looked_up(seed):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 256, (3, 256)).astype(np.uint8)
    image = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    out = Lut.from_table(table)(image)
    for c in range(3):
        assert (out[..., c] == table[c][image[..., c]]).all()
    assert (Lut.from_table(torch.from_numpy(table[0]))(image) == table[0][image]).all()
    wide = np.arange(65536, dtype=np.uint16)[::-1].copy()
    assert (Lut.from_table(wide)(image.astype(np.uint16)) == wide[image]).all()


def test_tables_are_interpolated_for_floats():
    lut = Lut.from_table(np.array([0.0, 1.0, 0.5]))
    image = np.array([[0.0, 0.25, 0.5, 0.75, 1.0, np.nan]])
    assert lut(image)[0, :5].tolist() == [0, 0.5, 1, 0.75, 0.5]
    assert np.isnan(lut(image)[0, 5])
    tensor = torch.tensor([[0.2, 0.7]], dtype=torch.float64, requires_grad=True)
    lut(tensor).sum().backward()
    assert tensor.grad.tolist() == [[2.0, -1.0]]


@pytest.mark.parametrize(
    "table", [np.zeros(1), np.zeros((1, 2, 3)), np.zeros(4, np.int64), np.array([0.0, 2.0]), np.array([0.0, np.nan])]
)
def test_wrong_tables(table):
    with pytest.raises(ValueError, match="table"):
        Lut.from_table(table)


def test_channels_must_fit():
    three, two = Lut.from_table(np.zeros((3, 4))), Lut.from_table(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="2 and 3 channels"):
        three @ two
    with pytest.raises(ValueError, match="for 3 colour channels; `image` has 1"):
        three(np.zeros((4, 5)))
    assert three(np.zeros((4, 5, 4)))[..., :3].shape == (4, 5, 3)
    assert ((three @ Lut.invert()).table(5)).shape == (3, 5)
    with pytest.raises(TypeError):
        three @ 3


def test_wide_integers_go_through_the_formula():
    image = np.array([[-100000, 0, 50000, 100000]], np.int32)
    out = Lut.invert()(image, data_range=(-100000, 100000))
    assert out.tolist() == [[100000, 0, -50000, -100000]]


@given(random_images(np.uint8, 3))
def test_one_pass_equals_two_where_nothing_is_rounded(image):
    assert ((Lut.invert() @ Lut.invert())(image) == image).all()
    assert (posterize(image, 256) == image).all()
    assert (gamma(image, 1.0) == image).all()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Lut.gamma(0), "exponent"), (lambda: Lut.gamma(1, -1), "gain"), (lambda: Lut.levels(0.5, 0.5), "black"),
        (lambda: Lut.levels(-0.1), "black"), (lambda: Lut.levels(gamma=0), "gamma"), (lambda: Lut.log(-1), "gain"),
        (lambda: Lut.curve([(0, 0)]), "points"), (lambda: Lut.curve([(0.5, 0), (0.5, 1)]), "points"),
        (lambda: Lut.curve([(0, 0), (2, 1)]), "points"), (lambda: Lut.curve([(0, 0, 0), (1, 1, 1)]), "points"),
        (lambda: Lut.posterize(1), "levels"), (lambda: Lut.solarize(2), "threshold"),
        (lambda: Lut.threshold(np.nan), "value"),
        (lambda: Lut.sigmoid(np.inf), "cutoff"), (lambda: Lut().table(1), "levels"),
    ],
)  # fmt: skip
def test_wrong_parameters(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
        min_size=2,
        max_size=7,
        unique_by=lambda p: p[0],
    )
)
def test_peer_scipy_pchip(points):
    interpolate = pytest.importorskip("scipy.interpolate")
    points = sorted(points)
    x, y = np.array(points, np.float64).T
    if np.diff(x).min() < 1e-3:
        return
    grid = np.linspace(x[0], x[-1], 201)
    np.testing.assert_allclose(
        Lut.curve(points)(grid[None])[0], np.clip(interpolate.PchipInterpolator(x, y)(grid), 0, 1), atol=1e-9
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
@example([0.0, 0.0, 5e-324])  # slopes so small that their inverse overflows
def test_curves_through_rising_points_rise_and_meet_them(ys):
    ys = sorted(ys)
    xs = np.linspace(0.1, 0.9, len(ys))
    curve = Lut.curve(list(zip(xs, ys, strict=True)))
    grid = np.linspace(0, 1, 400)[None]
    assert (np.diff(curve(grid)) >= -1e-12).all()
    np.testing.assert_allclose(curve(xs[None])[0], ys, atol=1e-12)
    assert curve(grid)[0, 0] == pytest.approx(ys[0])
    assert curve(grid)[0, -1] == pytest.approx(ys[-1])
