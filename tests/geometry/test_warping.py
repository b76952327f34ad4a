from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cvkit.geometry import (
    compose,
    crop_matrix,
    flip,
    flip_matrix,
    flip_points,
    resize_matrix,
    rotation_matrix,
    scale_matrix,
    transform_points,
    translation_matrix,
    warp,
)
from reference.geometry_sampling import blob, centroid, warp_bilinear
from strategies import SEEDS, SIDE, arrays, random_images

MIDDLE = (19.0, 14.0)
MAPS = {
    "turn": rotation_matrix(33.0, MIDDLE),
    "mirror": flip_matrix(39),
    "shift": translation_matrix((3.25, -2.5)),
    "enlarge": scale_matrix(1.7, 1.2, center=MIDDLE),
    "shrink": scale_matrix(0.7, 0.8, center=MIDDLE),
    "crop": crop_matrix((20.0, 13.0), (22, 27), (29, 39), rotation=-20.0),
    "mixed": compose(
        rotation_matrix(-140.0, MIDDLE), scale_matrix(1.3, 0.9, center=MIDDLE), translation_matrix((1, 2))
    ),
}


def as_tensor(array):
    return torch.from_numpy(array if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("kind", ["array", "tensor", "pillow"])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.fault("HRNet/HRNet-Facial-Landmark-Detection#63")
def test_bright_dot_goes_where_its_point_goes(name, kind, mode):
    place, size = (16.3, 15.8), (29, 39)
    image = blob(size, place)
    expected = transform_points(MAPS[name], [place])[0]
    if kind == "tensor":
        found = warp(torch.from_numpy(image), MAPS[name], size, mode=mode).numpy()
    elif kind == "pillow":
        found = np.asarray(warp(Image.fromarray((image * 65535).astype(np.uint16)), MAPS[name], size, mode=mode))
    else:
        found = warp(image, MAPS[name], size, mode=mode)
    np.testing.assert_allclose(centroid(found.clip(0)), expected, atol=0.1 if mode != "nearest" else 0.51)


@given(random_images(np.float64), SEEDS, SIDE, SIDE, st.floats(-1, 2))
def test_warp_equals_sampling_pixel_by_pixel(image, seed, height, width, fill):
    rng = np.random.default_rng(seed)
    matrix = compose(rotation_matrix(rng.uniform(0, 360)), scale_matrix(*rng.uniform(0.4, 2.5, 2)),
                     translation_matrix(rng.uniform(-5, 5, 2)))  # fmt: skip
    expected = warp_bilinear(image, matrix, (height, width), fill)
    np.testing.assert_allclose(warp(image, matrix, (height, width), fill=fill), expected, atol=1e-9)
    tensor = warp(as_tensor(image), matrix, (height, width), fill=fill)
    np.testing.assert_allclose(tensor.numpy(), as_tensor(expected).numpy(), atol=1e-9)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", MAPS)
def test_warp_agrees_with_opencv(name, mode):
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(0).random((29, 39, 3)).astype(np.float32)
    flag = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[mode]
    peer = cv2.warpAffine(image, MAPS[name], (41, 31), flags=flag, borderValue=(0.25, 0.25, 0.25))
    # OpenCV before version 5 rounds places to 1/32 pixel.
    tolerance = 1e-4 if int(cv2.__version__.split(".")[0]) >= 5 else 0.05
    np.testing.assert_allclose(warp(image, MAPS[name], (31, 41), mode=mode, fill=0.25), peer, atol=tolerance)
    tensor = warp(as_tensor(image), MAPS[name], (31, 41), mode=mode, fill=0.25)
    np.testing.assert_allclose(tensor.numpy().transpose(1, 2, 0), peer, atol=tolerance)


@given(arrays(np.uint8), st.sampled_from(["nearest", "bilinear", "bicubic"]))
def test_identity_changes_no_integer(image, mode):
    size = image.shape[:2]
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), size, mode=mode), image)
    np.testing.assert_array_equal(
        warp(as_tensor(image), np.eye(2, 3), size, mode=mode).numpy(), as_tensor(image).numpy()
    )


@given(random_images(np.float32), st.integers(-4, 4), st.integers(-4, 4))
def test_whole_shifts_move_arrays_bit_for_bit(image, x, y):
    height, width = image.shape[:2]
    moved = warp(image, translation_matrix((x, y)), (height + 8, width + 8), fill=-1.0)
    padded = np.pad(image, [(8, 16), (8, 16)] + [(0, 0)] * (image.ndim - 2), constant_values=-1)
    np.testing.assert_array_equal(moved, padded[8 - y : 16 - y + height, 8 - x : 16 - x + width])


@given(random_images(np.uint8))
def test_mirroring_by_matrix_is_flipping(image):
    size = image.shape[:2]
    np.testing.assert_array_equal(warp(image, flip_matrix(size[1]), size), flip(image))


def test_edge_fill_repeats_the_border():
    image = np.arange(12.0).reshape(3, 4)
    for kind in (np.asarray, torch.from_numpy):
        moved = warp(kind(image), translation_matrix((1, 1)), (4, 5), fill="edge")
        np.testing.assert_allclose(np.asarray(moved), np.pad(image, ((1, 0), (1, 0)), mode="edge"), atol=1e-12)


def test_fill_by_channel_is_in_the_images_units():
    image = np.zeros((2, 2, 3), np.uint8)
    far = translation_matrix((10, 0))
    assert warp(image, far, (1, 1), fill=(1, 20, 255)).tolist() == [[[1, 20, 255]]]
    assert warp(as_tensor(image), far, (1, 1), fill=(1, 20, 255)).tolist() == [[[1]], [[20]], [[255]]]
    assert warp(Image.new("RGB", (2, 2)), far, (1, 1), fill=(1, 20, 255)).getpixel((0, 0)) == (1, 20, 255)


def test_pixels_of_no_weight_spread_no_nan():
    image = np.array([[1.0, np.nan, 3.0]])
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), (1, 3)), image)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64, bool]
)
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_dtype_survives_in_arrays_and_tensors(dtype, mode):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 2, (5, 7)).astype(dtype) if dtype is bool else (rng.random((5, 7)) * 100).astype(dtype)
    matrix = rotation_matrix(20, (3, 2))
    found, tensor = warp(image, matrix, (6, 4), mode=mode), warp(torch.from_numpy(image), matrix, (6, 4), mode=mode)
    assert found.dtype == image.dtype
    assert tensor.dtype == torch.from_numpy(image).dtype
    # One level: a tie may fall to either side.
    np.testing.assert_allclose(
        tensor.numpy().astype(float), found.astype(float), atol=1 if found.dtype.kind in "iub" else 0.1
    )


def test_integers_are_rounded_half_up_and_clipped():
    image = np.array([[0, 1], [255, 255]], np.uint8)
    half = translation_matrix((-0.5, 0))
    assert warp(image, half, (1, 1)).tolist() == [[1]]
    assert warp(torch.from_numpy(image), half, (1, 1)).tolist() == [[1]]
    edge = np.array([[255, 255, 0, 0]], np.uint8)
    found = warp(edge, translation_matrix((-0.5, 0)), (1, 3), mode="bicubic", fill="edge")
    assert found.tolist() == [[255, 128, 0]]
    top = np.full((2, 2), np.iinfo(np.int64).max)
    assert warp(top, half, (1, 1)).item() > 9.2e18
    assert warp(torch.from_numpy(top), half, (1, 1)).item() > 9.2e18


def test_bfloat16_stays_bfloat16():
    image = torch.rand(2, 3, 5, 7).to(torch.bfloat16)
    assert warp(image, np.eye(2, 3), (5, 7)).dtype == torch.bfloat16


def test_batches_take_one_map_each():
    images = torch.rand(3, 2, 5, 7, dtype=torch.float64)
    maps = torch.stack([torch.from_numpy(rotation_matrix(20.0 * i, (3, 2))) for i in range(3)])
    found = warp(images, maps, (6, 4))
    for i in range(3):
        torch.testing.assert_close(found[i], warp(images[i], maps[i], (6, 4)))
    torch.testing.assert_close(warp(images[1], maps, (6, 4))[2], warp(images[1], maps[2], (6, 4)))
    torch.testing.assert_close(warp(images[1:2], maps, (6, 4))[2], warp(images[1], maps[2], (6, 4)))
    torch.testing.assert_close(warp(images, maps[1:2], (6, 4))[2], warp(images[2], maps[1], (6, 4)))
    torch.testing.assert_close(warp(images, maps.numpy(), (6, 4)), found)
    assert warp(images[:0], maps[:0], (6, 4)).shape == (0, 2, 6, 4)
    assert warp(images[:0], maps[0], (6, 4), antialias=True).shape == (0, 2, 6, 4)
    assert warp(images[:, :0], maps, (6, 4)).shape == (3, 0, 6, 4)


def test_memory_format_survives():
    images = torch.rand(2, 3, 5, 7).to(memory_format=torch.channels_last)
    for result in (warp(images, np.eye(2, 3), (4, 6)), flip(images)):
        assert result.is_contiguous(memory_format=torch.channels_last)
        assert not result.is_contiguous()
    assert warp(images.contiguous(), np.eye(2, 3), (4, 6)).is_contiguous()
    assert flip(images.contiguous()).is_contiguous()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fill", [0.0, 0.7, "edge"])
@pytest.mark.parametrize("antialias", [False, True])
def test_gradients_by_image_and_matrix(mode, fill, antialias):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 1, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    base = torch.from_numpy(np.stack([compose(rotation_matrix(a, (2, 2)), scale_matrix(0.61)) for a in (31.0, -17.0)]))
    matrix = base.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda i, m: warp(i, m, (3, 4), mode=mode, fill=fill, antialias=antialias), (image, matrix)
    )


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_antialiasing_averages_whole_blocks(kind):
    image = np.random.default_rng(0).random((12, 20))
    found = warp(kind(image), resize_matrix((12, 20), (3, 4)), (3, 4), antialias=True)
    np.testing.assert_allclose(np.asarray(found), image.reshape(3, 4, 4, 5).mean((1, 3)), atol=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_antialiasing_tames_a_chessboard_and_keeps_places(kind):
    board = np.indices((64, 64)).sum(0) % 2 * 1.0
    matrix = compose(rotation_matrix(20, (31.5, 31.5)), crop_matrix((31.5, 31.5), (40, 40), (8, 8)))
    plain, smooth = (np.asarray(warp(kind(board), matrix, (8, 8), antialias=a)) for a in (False, True))
    assert np.abs(smooth - 0.5).max() < 0.1 < np.abs(plain - 0.5).max()
    place = (35.3, 29.8)
    dot = warp(kind(blob((64, 64), place, sigma=4.0)), matrix, (8, 8), antialias=True)
    np.testing.assert_allclose(centroid(np.asarray(dot)), transform_points(matrix, [place])[0], atol=0.05)


def test_antialiasing_leaves_enlarging_alone():
    image = np.random.default_rng(0).random((5, 7))
    matrix = scale_matrix(2.5)
    np.testing.assert_allclose(warp(image, matrix, (9, 11), antialias=True), warp(image, matrix, (9, 11)), atol=1e-12)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pillow_modes_and_information_survive(mode):
    image = Image.new(
        mode, (7, 5), 200 if mode in {"L", "I;16", "I", "F"} else (200,) * len(Image.new(mode, (1, 1)).getbands())
    )
    image.info["dpi"] = (72, 72)
    for result in (warp(image, np.eye(2, 3), (5, 7)), flip(image)):
        assert (result.mode, result.size, result.info["dpi"]) == (mode, (7, 5), (72, 72))
        assert result.getpixel((3, 2)) == image.getpixel((3, 2))


@given(hnp.arrays(np.uint8, (3, 5, 3)))
def test_flip_mirrors_every_kind(image):
    expected = image[:, ::-1]
    np.testing.assert_array_equal(flip(image), expected)
    np.testing.assert_array_equal(np.asarray(flip(Image.fromarray(image))), expected)
    np.testing.assert_array_equal(flip(as_tensor(image)).numpy(), as_tensor(np.ascontiguousarray(expected)).numpy())
    np.testing.assert_array_equal(flip(flip(image)), image)


def test_flipping_picture_and_points_agree():
    place = np.array([[8.3, 4.0]])
    np.testing.assert_allclose(centroid(flip(blob((11, 23), place[0]))), flip_points(place, 23)[0], atol=0.02)


def test_flip_keeps_palettes():
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 1)
    assert flip(image).convert("RGB").getpixel((2, 0)) == (255, 0, 0)


def test_arguments_stay_as_they_are_and_views_serve():
    base = np.random.default_rng(0).random((10, 14, 3))
    view = base[::-2, ::2]
    view.setflags(write=False)
    before = base.copy()
    np.testing.assert_array_equal(warp(view, np.eye(2, 3), (5, 7)), view)
    tensor = torch.rand(3, 10, 14)[:, ::2, ::2]
    torch.testing.assert_close(warp(tensor, np.eye(2, 3), (5, 7)), tensor, atol=1e-5, rtol=0)
    flip(view)
    np.testing.assert_array_equal(base, before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_thin_pictures(shape):
    image = np.random.default_rng(0).random(shape)
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), shape), image)
    np.testing.assert_allclose(warp(torch.from_numpy(image), np.eye(2, 3), shape).numpy(), image, atol=1e-12)


def test_places_far_away_are_outside():
    assert warp(np.ones((2, 2)), translation_matrix((1e300, 0)), (2, 2), fill=5).tolist() == [[5, 5], [5, 5]]


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: warp([[1]], np.eye(2, 3), (1, 1)), TypeError, "`image` must be a Pillow image, an array or a tensor"),
    (lambda: warp(np.ones((2, 2)), torch.eye(2, 3), (1, 1)), TypeError, "`matrix` must be an array"),
    (lambda: warp(Image.new("P", (2, 2)), np.eye(2, 3), (1, 1)), TypeError, "convert it to 'L' or 'RGBA'"),
    (lambda: warp(np.ones(3), np.eye(2, 3), (1, 1)), ValueError, r"`image` must have shape \(H, W\)"),
    (lambda: warp(np.ones((0, 3)), np.eye(2, 3), (1, 1)), ValueError, "at least one pixel"),
    (lambda: warp(torch.ones(0, 3), np.eye(2, 3), (1, 1)), ValueError, "at least one pixel"),
    (lambda: warp(torch.ones(3), np.eye(2, 3), (1, 1)), ValueError, "`image` must have shape"),
    (lambda: warp(np.ones((2, 2), complex), np.eye(2, 3), (1, 1)), TypeError, "real numbers"),
    (lambda: warp(np.ones((2, 2)), np.ones((3, 2, 3)), (1, 1)), ValueError, r"`matrix` must have shape \(2, 3\)"),
    (lambda: warp(torch.ones(2, 2), np.tile(np.eye(2, 3), (3, 1, 1)), (1, 1)), ValueError, "`matrix` must have shape"),
    (lambda: warp(torch.ones(2, 1, 2, 2), torch.ones(3, 2, 3), (1, 1)), ValueError, "one map or one for each of 2"),
    (lambda: warp(torch.ones(1, 2, 2), torch.eye(2, 3, device="meta"), (1, 1)), ValueError, "on one device"),
    (lambda: warp(torch.ones(2, 2), np.zeros((2, 3)), (1, 1)), ValueError, "cannot be inverted"),
    (lambda: warp(np.ones((2, 2)), np.zeros((2, 3)), (1, 1)), ValueError, "cannot be inverted"),
    (lambda: warp(np.ones((2, 2)), np.eye(2, 3), (0, 1)), ValueError, r"`size\[0\]`"),
    (lambda: warp(np.ones((2, 2)), np.eye(2, 3), (1, 1), mode="lanczos"), ValueError, "`mode` must be one of"),
    (lambda: warp(np.ones((2, 2)), np.eye(2, 3), (1, 1), fill="mirror"), ValueError, "`fill` must be one of 'edge'"),
    (lambda: warp(np.ones((2, 2)), np.eye(2, 3), (1, 1), fill=(1, 2)), ValueError, "`fill` must be one number"),
    (lambda: warp(np.ones((2, 2)), np.eye(2, 3), (1, 1), fill=None), ValueError, "`fill` must be finite"),
    (lambda: warp(np.ones((2, 2)), np.eye(2, 3), (1, 1), fill={}), TypeError, "`fill` must be a number"),
    (lambda: flip("a"), TypeError, "`image` must be a Pillow image"),
    (lambda: flip(np.ones(3)), ValueError, "`image` must have shape"),
    (lambda: flip(torch.ones(3)), ValueError, "`image` must have shape"),
])  # fmt: skip
def test_wrong_arguments_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
