from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.geometry import flip, invert, prepare, resize, resize_matrix, transform_points, warp
from reference.geometry_sampling import blob, centroid, resample_axis
from strategies import SEEDS, SIDE, random_images

MODES = st.sampled_from(["bilinear", "bicubic"])
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def as_tensor(array):
    return torch.from_numpy(array if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


def as_array(tensor):
    return tensor.numpy() if tensor.ndim == 2 else tensor.numpy().transpose(1, 2, 0)


@given(random_images(np.float64), SIDE, SIDE, MODES)
def test_resize_equals_the_slow_kernel_on_every_axis(image, height, width, mode):
    expected = np.apply_along_axis(resample_axis, 0, image, height, mode)
    expected = np.apply_along_axis(resample_axis, 1, expected, width, mode)
    np.testing.assert_allclose(resize(image, (height, width), mode=mode), expected, atol=1e-12)
    np.testing.assert_allclose(as_array(resize(as_tensor(image), (height, width), mode=mode)), expected, atol=1e-12)


@pytest.mark.parametrize("size", [(41, 1), (5, 1), (1, 41), (1, 1)])
def test_columns_of_width_one_are_right_on_tensors(size):
    # torch 2.13's antialiased kernel is wrong by up to 0.4 for these when scaling down the columns.
    image = torch.rand(2, 3, 7, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = resize(image, size)
    expected = np.stack([resize(as_array(picture), size).transpose(2, 0, 1) for picture in image])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.fault("princeton-vl/pytorch_stacked_hourglass#14")
@given(random_images(np.uint8, channels=st.sampled_from([None, 3])), SIDE, SIDE, st.sampled_from(sorted(PILLOW)))
def test_arrays_of_bytes_agree_with_pillow_bit_for_bit(image, height, width, mode):
    picture = Image.fromarray(image)
    expected = np.asarray(picture.resize((width, height), PILLOW[mode]))
    np.testing.assert_array_equal(resize(image, (height, width), mode=mode), expected)
    np.testing.assert_array_equal(np.asarray(resize(picture, (height, width), mode=mode)), expected)


@given(random_images(np.uint8, channels=st.sampled_from([1, 2, 4])), SIDE, SIDE)
def test_channels_of_arrays_are_independent(image, height, width):
    found = resize(image, (height, width))
    assert found.shape == (height, width, image.shape[2])
    for i in range(image.shape[2]):
        np.testing.assert_array_equal(found[:, :, i], resize(np.ascontiguousarray(image[:, :, i]), (height, width)))


@given(random_images(np.uint8, channels=None), SIDE, SIDE, st.sampled_from(sorted(PILLOW)))
def test_tensors_of_bytes_are_rounded_once(image, height, width, mode):
    found = resize(torch.from_numpy(image), (height, width), mode=mode).numpy()
    exact = resize(image.astype(np.float64), (height, width), mode=mode)
    assert np.abs(found - exact.clip(0, 255)).max() <= 0.5 + 1e-3


@given(random_images(np.float64), MODES)
def test_same_size_changes_nothing(image, mode):
    np.testing.assert_allclose(resize(image, image.shape[:2], mode=mode), image, atol=1e-12)


@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from(sorted(PILLOW)), st.floats(-5, 5))
def test_constants_stay_constant(height, width, new_height, new_width, mode, value):
    found = resize(np.full((height, width), value), (new_height, new_width), mode=mode)
    np.testing.assert_allclose(found, value, atol=1e-12)


@given(random_images(np.float64), SIDE, SIDE, MODES)
def test_resizing_commutes_with_mirroring(image, height, width, mode):
    one, other = flip(resize(image, (height, width), mode=mode)), resize(flip(image), (height, width), mode=mode)
    np.testing.assert_allclose(one, other, atol=1e-12)


@given(random_images(np.float64), SIDE, SIDE)
def test_bilinear_stays_within_the_images_range(image, height, width):
    found = resize(image, (height, width))
    assert found.min() >= image.min() - 1e-12
    assert found.max() <= image.max() + 1e-12


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, Image.fromarray])
@pytest.mark.parametrize("size", [(15, 20), (31, 90), (60, 33)])
def test_bright_dot_goes_where_its_point_goes(kind, size):
    place = (22.3, 15.9)
    image = blob((40, 50), place, sigma=3.0).astype(np.float32)
    found = np.asarray(resize(kind(image), size))
    np.testing.assert_allclose(centroid(found), transform_points(resize_matrix((40, 50), size), [place])[0], atol=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float16, np.float32, np.float64, bool])
@pytest.mark.parametrize("mode", sorted(PILLOW))
def test_dtype_survives(dtype, mode):
    image = (
        np.random.default_rng(0).random((5, 7)) * (2 if dtype is bool else 100) + (0 if dtype is bool else 60)
    ).astype(dtype)
    for size in ((3, 4), (9, 8), (3, 1)):
        found, tensor = resize(image, size, mode=mode), resize(torch.from_numpy(image), size, mode=mode)
        assert found.dtype == dtype
        assert tensor.dtype == torch.from_numpy(image).dtype
        np.testing.assert_allclose(
            tensor.numpy().astype(float), found.astype(float), atol=2 if found.dtype.kind in "iub" else 0.1
        )


def test_nearest_takes_the_pixel_under_the_centre():
    image = np.arange(6.0).reshape(1, 6)
    for kind in (np.asarray, torch.from_numpy):
        assert np.asarray(resize(kind(image), (1, 3), mode="nearest")).tolist() == [[1, 3, 5]]
        assert np.asarray(resize(kind(image), (2, 12), mode="nearest"))[1].tolist() == np.repeat(range(6), 2).tolist()


def test_batches_memory_format_and_empty_batches():
    images = torch.rand(2, 3, 5, 7).to(memory_format=torch.channels_last)
    found = resize(images, (4, 6))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found[1], resize(images[1], (4, 6)))
    assert resize(images[:0], (4, 6)).shape == (0, 3, 4, 6)
    assert resize(np.zeros((5, 7, 0), np.uint8), (4, 6)).shape == (4, 6, 0)


@pytest.mark.parametrize("size", [(3, 4), (6, 9), (7, 1)])
def test_gradients_through_resizing(size):
    image = torch.rand(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize(x, size), image)


def test_sixteen_bit_pillow_images_stay_sixteen_bit():
    image = Image.fromarray(np.array([[0, 65535]], np.uint16))
    image.info["dpi"] = (300, 300)
    found = resize(image, (1, 4))
    assert (found.mode, found.info["dpi"]) == ("I;16", (300, 300))
    assert np.asarray(found).tolist() == [[0, 16384, 49151, 65535]]


def test_palettes_are_resized_by_nearest_only():
    image = Image.new("P", (2, 2))
    assert resize(image, (4, 4), mode="nearest").mode == "P"
    with pytest.raises(TypeError, match="convert it to 'L' or 'RGBA', or use mode='nearest'"):
        resize(image, (4, 4))


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: resize("a", (1, 1)), TypeError, "`image` must be a Pillow image"),
    (lambda: resize(np.ones(3), (1, 1)), ValueError, "`image` must have shape"),
    (lambda: resize(np.ones((0, 3)), (1, 1)), ValueError, "at least one pixel"),
    (lambda: resize(np.ones((2, 2), complex), (1, 1)), TypeError, "real numbers"),
    (lambda: resize(torch.ones(3), (1, 1)), ValueError, "`image` must have shape"),
    (lambda: resize(torch.ones(1, 0, 3), (1, 1)), ValueError, "at least one pixel"),
    (lambda: resize(Image.new("L", (0, 3)), (1, 1)), ValueError, "at least one pixel"),
    (lambda: resize(np.ones((2, 2)), (1, 1.5)), TypeError, r"`size\[1\]` must be an integer"),
    (lambda: resize(np.ones((2, 2)), (1, 1), mode="box"), ValueError, "`mode` must be one of"),
])  # fmt: skip
def test_wrong_arguments_of_resize_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


# prepare

FITS = ["crop", "pad", "stretch"]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("fraction", [1.0, 224 / 256])
@pytest.mark.parametrize("photo_size", [(150, 97), (80, 201), (64, 64)])
@pytest.mark.parametrize("kind", [
    lambda a: Image.fromarray(np.floor(a * 255 + 0.5).astype(np.uint8)),
    lambda a: np.floor(a * 65535 + 0.5).astype(np.uint16),
    lambda a: a,
    torch.from_numpy,
])  # fmt: skip
@pytest.mark.fault("HRNet/HRNet-Facial-Landmark-Detection#63")
def test_points_find_their_way_back_to_the_photograph(fit, fraction, photo_size, kind):
    place = np.array([photo_size[1] * 0.55, photo_size[0] * 0.47])
    photo = kind(blob(photo_size, place, sigma=6.0))
    tensor, to_photo = prepare(photo, (48, 40), fit=fit, crop_fraction=fraction, fill=0.0)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 48, 40), torch.float32)
    found = transform_points(to_photo, [centroid(tensor[0, 1].numpy().astype(np.float64))])[0]
    np.testing.assert_allclose(found, place, atol=0.2)
    # And in the tensor's own pixels the rule of a tenth holds.
    np.testing.assert_allclose(centroid(tensor[0, 1].numpy()), transform_points(invert(to_photo), [place])[0], atol=0.1)


@given(
    random_images(np.uint8, channels=st.sampled_from([None, 1, 3])),
    SIDE,
    SIDE,
    st.sampled_from(FITS),
    st.floats(0.3, 1),
)
def test_kinds_agree(image, height, width, fit, fraction):
    size = (height, width)
    first = prepare(image, size, fit=fit, crop_fraction=fraction)
    picture = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    for other in (
        picture,
        (image / 255).astype(np.float64),
        as_tensor(image),
        as_tensor((image / 255).astype(np.float32)),
    ):
        tensor, to_photo = prepare(other, size, fit=fit, crop_fraction=fraction)
        np.testing.assert_array_equal(to_photo, first.to_photo)
        assert (tensor - first.tensor).abs().max() <= 1.01 / 255


@given(SEEDS, st.sampled_from(FITS))
def test_values_stay_within_the_range(seed, fit):
    photo = np.random.default_rng(seed).integers(0, 2, (9, 14, 3)).astype(np.float32)
    tensor = prepare(photo, (17, 12), fit=fit, mode="bicubic").tensor
    assert tensor.min() >= 0
    assert tensor.max() <= 1


@pytest.mark.parametrize(("fit", "corners"), [
    ("stretch", [[-0.5, -0.5], [199.5, 99.5]]),
    ("crop", [[49.5, -0.5], [149.5, 99.5]]),
    ("pad", [[-0.5, -50.5], [199.5, 149.5]]),
])  # fmt: skip
def test_the_way_back_reaches_the_windows_corners(fit, corners):
    found = prepare(Image.new("RGB", (200, 100)), (48, 48), fit=fit)
    np.testing.assert_allclose(transform_points(found.to_photo, [[-0.5, -0.5], [47.5, 47.5]]), corners, atol=1e-9)


def test_padding_shows_all_between_bars_of_the_fill():
    tensor = prepare(Image.new("RGB", (20, 10), (255, 0, 0)), (8, 8), fit="pad", fill=(0.0, 0.0, 1.0)).tensor[0]
    assert tensor[:, 0, 0].tolist() == [0, 0, 1]
    assert tensor[:, 3, 0].tolist() == [1, 0, 0]
    assert (tensor[0] == 1).sum() == 4 * 8


def test_usual_preprocessing_of_classifiers_is_reproduced():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    found = prepare(photo, (224, 224), crop_fraction=224 / 256, mode="bicubic").tensor[0]
    expected = np.asarray(photo)[16:240, 16:240].transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("kind", ["pillow", "array", "float", "tensor"])
def test_transparency_is_laid_over_the_fill(kind):
    array = np.zeros((4, 4, 4), np.uint8)
    array[:, :, 0] = 255
    array[:, :2, 3] = 255
    photo = {"pillow": Image.fromarray(array), "array": array, "float": array / 255.0, "tensor": as_tensor(array)}[kind]
    tensor = prepare(photo, (4, 4), fill=0.2).tensor[0]
    np.testing.assert_allclose(tensor[:, 0, 0], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(tensor[:, 0, 3], [0.2, 0.2, 0.2], atol=1e-6)


def test_grey_with_alpha_and_palettes_with_transparency():
    grey = prepare(np.array([[[1.0, 0.5]]]), (1, 1), fill=0.0).tensor
    assert grey.flatten().tolist() == [0.5, 0.5, 0.5]
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 0, 0])
    palette.info["transparency"] = 0
    np.testing.assert_allclose(prepare(palette, (1, 1), fill=1.0).tensor.flatten(), [1, 1, 1])


@pytest.mark.fault("pytorch/vision#8188")
def test_sixteen_bit_grey_is_unsigned():
    photo = Image.fromarray(np.array([[65535]], np.uint16))
    assert prepare(photo, (2, 2)).tensor.min() == 1


def test_half_precision_photos_and_batches_of_one():
    photo = torch.full((1, 3, 4, 5), 0.5, dtype=torch.bfloat16)
    assert prepare(photo, (2, 2)).tensor.dtype == torch.float32
    assert prepare(np.full((4, 5), 0.5, np.float16), (2, 2)).tensor.unique().tolist() == [0.5]


def test_maps_go_back_onto_the_photograph():
    place = (60.0, 40.0)
    tensor, to_photo = prepare(blob((80, 120), place, sigma=5.0), (32, 32))
    back = warp(tensor[0, 0].numpy(), to_photo, (80, 120))
    np.testing.assert_allclose(centroid(back), place, atol=0.1)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: prepare("a.png", (4, 4)), TypeError, "`photo` must be a Pillow image"),
    (lambda: prepare(Image.new("F", (4, 4)), (4, 4)), TypeError, "Pillow mode 'F'"),
    (lambda: prepare(Image.new("L", (0, 4)), (4, 4)), ValueError, "at least one pixel"),
    (lambda: prepare(np.ones((4, 4, 5)), (4, 4)), ValueError, "1 to 4 channels"),
    (lambda: prepare(torch.ones(2, 3, 4, 4), (4, 4)), ValueError, "1 to 4 channels"),
    (lambda: prepare(np.ones((4, 4), np.int32), (4, 4)), TypeError, "dtype int32"),
    (lambda: prepare(np.full((4, 4), 1.5), (4, 4)), ValueError, r"must lie in \[0, 1\]"),
    (lambda: prepare(np.full((4, 4), np.nan), (4, 4)), ValueError, r"must lie in \[0, 1\]"),
    (lambda: prepare(torch.full((4, 4), -0.1), (4, 4)), ValueError, r"must lie in \[0, 1\]"),
    (lambda: prepare(np.ones((4, 4)), (4, 4), fit="cover"), ValueError, "`fit` must be one of"),
    (lambda: prepare(np.ones((4, 4)), (4, 4), crop_fraction=0), ValueError, "`crop_fraction` must lie in"),
    (lambda: prepare(np.ones((4, 4)), (4, 4), fill=2), ValueError, "`fill` must be one or three"),
    (lambda: prepare(np.ones((4, 4)), (4, 4), mode="area"), ValueError, "`mode` must be one of"),
])  # fmt: skip
def test_wrong_arguments_of_prepare_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
