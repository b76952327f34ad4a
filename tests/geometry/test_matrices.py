from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from cvkit import geometry
from cvkit.geometry import (
    compose,
    crop_matrix,
    flip_matrix,
    flip_points,
    invert,
    resize_matrix,
    rotation_matrix,
    scale_matrix,
    transform_points,
    translation_matrix,
)

NUMBERS = st.floats(-50, 50)
ANGLES = st.floats(-720, 720)
SIDES = st.integers(1, 400)


@st.composite
def matrices(draw):
    """Well-conditioned affine maps."""
    turn = rotation_matrix(draw(ANGLES), (draw(NUMBERS), draw(NUMBERS)))
    stretch = scale_matrix(draw(st.floats(0.1, 10)), draw(st.floats(0.1, 10)))
    other = rotation_matrix(draw(ANGLES))
    shift = translation_matrix((draw(NUMBERS), draw(NUMBERS)))
    mirror = draw(st.sampled_from([np.eye(2, 3), flip_matrix(7)]))
    return compose(turn, stretch, other, mirror, shift)


def points(seed, *shape):
    return np.random.default_rng(seed).uniform(-100, 100, (*shape, 2))


@given(matrices(), st.integers(0, 99))
@pytest.mark.fault("princeton-vl/pose-hg-train#33")
@pytest.mark.fault("bearpaw/pytorch-pose#94")
def test_inverse_takes_points_back(matrix, seed):
    places = points(seed, 5)
    back = transform_points(invert(matrix), transform_points(matrix, places))
    np.testing.assert_allclose(back, places, atol=1e-8)


@given(matrices())
def test_inverse_equals_the_inverse_of_the_full_matrix(matrix):
    full = np.vstack([matrix, [0, 0, 1]])
    np.testing.assert_allclose(invert(matrix), np.linalg.inv(full)[:2], rtol=1e-8, atol=1e-8)


@given(matrices(), matrices(), matrices(), st.integers(0, 99))
def test_composition_applies_its_maps_in_order(first, second, third, seed):
    places = points(seed, 3)
    expected = transform_points(third, transform_points(second, transform_points(first, places)))
    np.testing.assert_allclose(transform_points(compose(first, second, third), places), expected, rtol=1e-9, atol=1e-6)


@given(matrices())
def test_identity_is_neutral(matrix):
    same = np.eye(2, 3)
    np.testing.assert_array_equal(compose(same, matrix), matrix)
    np.testing.assert_array_equal(compose(matrix, same), matrix)
    np.testing.assert_array_equal(compose(matrix), matrix)


def test_composition_returns_a_new_array():
    matrix = np.eye(2, 3)
    compose(matrix)[0, 0] = 5
    assert matrix[0, 0] == 1


@given(ANGLES, NUMBERS, NUMBERS)
def test_rotation_keeps_center_and_distances(degrees, x, y):
    matrix = rotation_matrix(degrees, (x, y))
    np.testing.assert_allclose(transform_points(matrix, [[x, y]]), [[x, y]], atol=1e-9)
    np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, np.eye(2), atol=1e-12)


@pytest.mark.fault("bearpaw/pytorch-pose#115")
@given(ANGLES, st.integers(-50, 50), st.integers(-50, 50))
def test_rotation_turns_as_opencv_does(degrees, x, y):
    cv2 = pytest.importorskip("cv2")
    np.testing.assert_allclose(rotation_matrix(degrees, (x, y)), cv2.getRotationMatrix2D((x, y), degrees, 1), atol=1e-9)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(90, [0, -1]), (180, [-1, 0]), (-90, [0, 1]), (360, [1, 0]), (-270, [0, -1])]
)
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_quarter_turns_are_exact(degrees, expected, kind):
    matrix = rotation_matrix(kind(float(degrees)))
    assert transform_points(matrix, kind([[1.0, 0.0]])).tolist() == [expected]


@given(st.floats(0.1, 10), st.floats(0.1, 10), NUMBERS, NUMBERS)
def test_scaling_keeps_its_center(sx, sy, x, y):
    matrix = scale_matrix(sx, sy, center=(x, y))
    np.testing.assert_allclose(
        transform_points(matrix, [[x, y], [x + 1, y + 1]]), [[x, y], [x + sx, y + sy]], atol=1e-9
    )


def test_scale_y_follows_scale_x():
    np.testing.assert_array_equal(scale_matrix(3), scale_matrix(3, 3))


@given(SIDES, SIDES, SIDES, SIDES)
def test_resizing_takes_edges_to_edges(h, w, new_h, new_w):
    matrix = resize_matrix((h, w), (new_h, new_w))
    corners = transform_points(matrix, [[-0.5, -0.5], [w - 0.5, h - 0.5]])
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [new_w - 0.5, new_h - 0.5]], atol=1e-9)


@given(SIDES, SIDES, SIDES, SIDES)
def test_resizing_there_and_back_is_the_identity(h, w, new_h, new_w):
    there, back = resize_matrix((h, w), (new_h, new_w)), resize_matrix((new_h, new_w), (h, w))
    np.testing.assert_allclose(compose(there, back), np.eye(2, 3), atol=1e-9)


@given(SIDES, SIDES, SIDES, SIDES)
def test_cropping_the_whole_is_resizing(h, w, new_h, new_w):
    crop = crop_matrix(((w - 1) / 2, (h - 1) / 2), (h, w), (new_h, new_w))
    np.testing.assert_allclose(crop, resize_matrix((h, w), (new_h, new_w)), atol=1e-9)


@given(NUMBERS, NUMBERS, st.floats(0.5, 90), st.floats(0.5, 90), ANGLES, SIDES, SIDES)
def test_crop_takes_the_turned_window_to_the_whole_output(x, y, h, w, degrees, new_h, new_w):
    matrix = crop_matrix((x, y), (h, w), (new_h, new_w), rotation=degrees)
    # The window is turned against the content: its corners lie at R^-1 (corner) about the centre.
    corners = np.array([[x - w / 2, y - h / 2], [x + w / 2, y - h / 2], [x + w / 2, y + h / 2]])
    window = transform_points(rotation_matrix(-degrees, (x, y)), corners)
    expected = [[-0.5, -0.5], [new_w - 0.5, -0.5], [new_w - 0.5, new_h - 0.5]]
    np.testing.assert_allclose(transform_points(matrix, window), expected, atol=1e-6)


@pytest.mark.fault("bearpaw/pytorch-pose#34")
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_mirroring_points_goes_to_width_minus_one_minus_x(kind):
    places = kind([[0.0, 4.0], [6.0, 4.0], [2.5, 3.0], [float("nan"), float("nan")]])
    flipped = flip_points(places, width=7)
    np.testing.assert_array_equal(np.asarray(flipped), [[6, 4], [0, 4], [3.5, 3], [np.nan, np.nan]])
    np.testing.assert_array_equal(np.asarray(flip_points(flipped, 7)), np.asarray(places))


@given(matrices(), st.integers(0, 99))
def test_tensors_agree_with_arrays(matrix, seed):
    places = points(seed, 2, 3)
    found = transform_points(torch.from_numpy(matrix), torch.from_numpy(places))
    np.testing.assert_allclose(found.numpy(), transform_points(matrix, places), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(invert(torch.from_numpy(matrix)).numpy(), invert(matrix), rtol=1e-12, atol=1e-12)
    both = compose(torch.from_numpy(matrix), torch.from_numpy(invert(matrix)))
    np.testing.assert_allclose(both.numpy(), compose(matrix, invert(matrix)), rtol=1e-12, atol=1e-12)


def test_batches_of_maps_move_row_by_row():
    maps = np.stack([translation_matrix((i, 0)) for i in range(3)])
    places = points(0, 3, 4)
    expected = np.stack([transform_points(m, p) for m, p in zip(maps, places, strict=True)])
    np.testing.assert_array_equal(transform_points(maps, places), expected)
    np.testing.assert_array_equal(transform_points(maps, places[0])[2], transform_points(maps[2], places[0]))
    np.testing.assert_array_equal(transform_points(torch.from_numpy(maps), torch.from_numpy(places)).numpy(), expected)
    assert transform_points(maps[:0], places[:0]).shape == (0, 4, 2)


@pytest.mark.parametrize("builder", [
    lambda v: translation_matrix(torch.stack([v, v], -1)),
    lambda v: rotation_matrix(v, torch.stack([v, v], -1)),
    rotation_matrix,
    lambda v: scale_matrix(v, center=(1.0, 2.0)),
    lambda v: scale_matrix(v, v * 2),
    lambda v: crop_matrix(torch.stack([v, v], -1), torch.stack([v, v], -1), (5, 7), rotation=v),
    lambda v: crop_matrix((v, v), (9.0, 5.0), (5, 7)),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_builders_take_batches_of_tensors(builder, dtype):
    values = torch.tensor([1.0, 2.5, 33.0], dtype=dtype)
    maps = builder(values)
    assert maps.shape == (3, 2, 3)
    assert maps.dtype == dtype
    single = builder(values[1])
    torch.testing.assert_close(maps[1], single)


def test_builders_take_batches_of_arrays():
    angles, centers = np.array([10.0, 20.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    maps = crop_matrix(centers, [(4, 5), (6, 7)], (8, 9), rotation=angles)
    for i in range(2):
        np.testing.assert_array_equal(maps[i], crop_matrix(centers[i], ((4, 5), (6, 7))[i], (8, 9), rotation=angles[i]))


def test_integer_tensors_give_float64_maps():
    assert rotation_matrix(torch.tensor(90)).dtype == torch.float64
    assert translation_matrix(torch.tensor([1, 2])).dtype == torch.float64
    assert transform_points(np.eye(2, 3), torch.tensor([[1, 2]])).dtype == torch.float64


def test_gradients_through_maps_and_points():
    values = torch.tensor([12.0, -1.5, 2.5], dtype=torch.float64, requires_grad=True)
    places = torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.float64, requires_grad=True)

    def moved(v, p):
        matrix = compose(rotation_matrix(v[0], v[1:]), crop_matrix(v[1:], v[1:].abs() + 1, (5, 7), rotation=v[0]))
        return transform_points(invert(matrix), p)

    assert torch.autograd.gradcheck(moved, (values, places))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_points_keep_their_floating_dtype_and_are_computed_wide(dtype):
    places = np.array([[1000.25, 3.0]], dtype)
    matrix = compose(translation_matrix((1e9, 0)), translation_matrix((-1e9, 0)))
    found = transform_points(matrix, places)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, places)
    tensor = transform_points(matrix, torch.from_numpy(places))
    assert tensor.dtype == torch.from_numpy(places).dtype
    np.testing.assert_array_equal(tensor.numpy(), places)


def test_integer_points_become_float64():
    assert transform_points(np.eye(2, 3), np.array([[1, 2]])).dtype == np.float64


def test_nothing_is_mutated_and_read_only_inputs_serve():
    matrix, places = np.eye(2, 3), points(0, 3)
    matrix.setflags(write=False)
    places.setflags(write=False)
    transform_points(matrix, places)
    transform_points(matrix, torch.from_numpy(places.copy()))
    invert(matrix)
    compose(matrix, matrix)


@pytest.mark.parametrize("shape", [(2,), (0, 2), (1, 2), (3, 5, 2)])
def test_one_map_serves_points_of_any_leading_shape(shape):
    places = np.ones(shape)
    assert transform_points(translation_matrix((1, 2)), places).shape == shape


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.array([[1.0, 2, 0], [2, 4, 0]]), np.full((2, 3), np.nan)])
def test_singular_arrays_cannot_be_inverted(matrix):
    with pytest.raises(ValueError, match="`matrix` cannot be inverted"):
        invert(matrix)


def test_singular_tensors_give_no_finite_map():
    assert not invert(torch.zeros(2, 3)).isfinite().all()


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: invert(np.eye(3)), ValueError, r"`matrix` must have shape \(2, 3\)"),
    (lambda: compose(np.eye(2, 3), torch.eye(2, 3)), TypeError, r"`others\[0\]` must be of the same kind"),
    (lambda: compose(np.eye(3)), ValueError, "`first` must have shape"),
    (lambda: transform_points(torch.eye(2, 3), np.zeros((1, 2))), TypeError, "`points` must be a tensor"),
    (lambda: transform_points(np.eye(2, 3), np.zeros((1, 3))), ValueError, r"`points` must have shape \(\.\.\., 2\)"),
    (lambda: transform_points(np.zeros((3, 2, 3)), np.zeros((2, 4, 2))), ValueError, "`points` must have shape"),
    (lambda: transform_points(np.zeros((3, 2, 3)), np.zeros(2)), ValueError, "`points` must have shape"),
    (lambda: translation_matrix((1, 2, 3)), ValueError, "`offset` must have two parts"),
    (lambda: translation_matrix((torch.tensor(1.0),)), ValueError, "`offset` must have two parts"),
    (lambda: translation_matrix(("a", 1)), TypeError, "`offset` must be numbers"),
    (lambda: rotation_matrix(float("nan")), ValueError, "`degrees` must be finite"),
    (lambda: scale_matrix(float("inf")), ValueError, "`scale_x` must be finite"),
    (lambda: crop_matrix((0, 0), (0, 3), (4, 4)), ValueError, "`size` must be positive"),
    (lambda: crop_matrix((0, 0), (2, 3), (4, 0)), ValueError, r"`output_size\[1\]` must be at least 1"),
    (lambda: resize_matrix((0, 1), (1, 1)), ValueError, r"`old\[0\]`"),
    (lambda: flip_matrix(0), ValueError, "`width` must be at least 1"),
    (lambda: flip_matrix(2.5), TypeError, "`width` must be an integer"),
])  # fmt: skip
def test_wrong_arguments_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("call", [
    lambda: rotation_matrix(torch.tensor(1.0), torch.zeros(2, device="meta")),
    lambda: transform_points(torch.eye(2, 3, device="meta"), torch.zeros(1, 2)),
])  # fmt: skip
def test_devices_must_agree(call):
    with pytest.raises(ValueError, match="must be on one device"):
        call()


@given(matrices(), matrices())
def test_inverse_of_a_composition_is_the_reversed_composition_of_inverses(first, second):
    both = compose(first, second)
    assume(np.linalg.cond(both[:, :2]) < 1e6)
    np.testing.assert_allclose(invert(both), compose(invert(second), invert(first)), rtol=1e-7, atol=1e-6)


def test_public_names_of_the_package():
    assert set(geometry.__all__) >= {"warp", "prepare", "compose", "invert"}
