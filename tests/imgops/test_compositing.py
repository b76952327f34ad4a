from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import MODES, OPERATORS, composite
from reference.imgops_compositing import composite_pixel, half_up
from strategies import SEEDS, random_images

EDGES = [0, 1, 2, 63, 64, 127, 128, 129, 191, 254, 255]
KEEPING = ["destination", "source-over", "destination-over", "destination-out", "source-atop", "xor", "lighter"]


def exact(source, backdrop, mode="normal", operator="source-over", scale=255, weight=1):
    """The oracle on whole arrays with alpha last."""
    out = np.empty_like(backdrop)
    for at in np.ndindex(backdrop.shape[:2]):
        s = [Fraction(int(v), scale) for v in source[at]]
        b = [Fraction(int(v), scale) for v in backdrop[at]]
        color, alpha = composite_pixel(s[:-1], s[-1] * weight, b[:-1], b[-1], mode, operator)
        out[at] = [half_up(v * scale) for v in (*color, alpha)]
    return out


def random_rgba(seed, shape=(5, 7), dtype=np.uint8, channels=4):
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    image = rng.integers(0, top, (*shape, channels), dtype=dtype, endpoint=True)
    for value in (0, top):
        image[rng.random(image.shape) < 0.12] = value
    return image


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.fault("libvips/libvips#4614")
def test_composite_of_8_bit_pixels_is_the_exact_result_rounded_half_up(mode, operator):
    seed = sum(map(ord, mode + operator))
    source, backdrop = random_rgba(seed), random_rgba(seed + 1)
    assert np.array_equal(
        composite(source, backdrop, mode=mode, operator=operator), exact(source, backdrop, mode, operator)
    )


@pytest.mark.parametrize("mode", MODES)
def test_composite_agrees_with_the_oracle_on_a_grid_of_alphas_and_colours(mode):
    alphas, colors = [0, 1, 128, 255], [0, 1, 100, 255]
    grid = np.stack(np.meshgrid(alphas, alphas, colors, colors, indexing="ij"), -1).reshape(-1, 4)
    source = np.stack([grid[:, 2], 255 - grid[:, 2], grid[:, 3], grid[:, 0]], -1)[None].astype(np.uint8)
    backdrop = np.stack([grid[:, 3], grid[:, 2], 255 - grid[:, 3], grid[:, 1]], -1)[None].astype(np.uint8)
    assert np.array_equal(composite(source, backdrop, mode=mode), exact(source, backdrop, mode))


@pytest.mark.fault("flrs/blend_modes#8")
@pytest.mark.parametrize("mode", [m for m in MODES if m not in {"hue", "saturation", "color", "luminosity"}])
def test_separable_modes_on_all_pairs_of_levels(mode):
    backdrop, source = (a.astype(np.uint8) for a in np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))
    result = composite(source, backdrop, mode=mode)
    levels = [Fraction(i, 255) for i in range(256)]
    for b, s in [(b, s) for b in range(0, 256, 5) for s in range(256)] + [(b, s) for b in EDGES for s in range(256)]:
        color, _ = composite_pixel([levels[s]], Fraction(1), [levels[b]], Fraction(1), mode)
        assert result[b, s] == half_up(color[0] * 255), (b, s)


@pytest.mark.parametrize("operator", OPERATORS)
def test_16_bit_operators_are_exact(operator):
    source, backdrop = random_rgba(1, (6, 9), np.uint16), random_rgba(2, (6, 9), np.uint16)
    result = composite(source, backdrop, operator=operator)
    assert np.array_equal(result, exact(source, backdrop, operator=operator, scale=65535))


@given(SEEDS, st.sampled_from(KEEPING), st.sampled_from(MODES), st.sampled_from(["srgb", "linear"]), st.booleans())
@pytest.mark.fault("pytorch/vision#8141")
def test_a_transparent_source_returns_the_backdrop_bit_for_bit(seed, operator, mode, space, premultiplied):
    source, backdrop = random_rgba(seed), random_rgba(seed + 1)
    source[..., 3] = 0
    options = {"mode": mode, "operator": operator, "space": space, "premultiplied": premultiplied}
    assert np.array_equal(composite(source, backdrop, **options), backdrop)
    rng = np.random.default_rng(seed)
    floats = rng.normal(0.5, 0.6, (4, 5, 6)).astype(np.float32)
    clear = rng.random((4, 5, 6)).astype(np.float32)
    clear[3] = 0
    clear[:3, 0] = np.nan
    result = composite(torch.from_numpy(clear), torch.from_numpy(floats), **options)
    assert np.array_equal(result.numpy(), floats)


def test_an_opaque_source_comes_out_bit_for_bit():
    rng = np.random.default_rng(0)
    source = rng.random((5, 6, 4))
    source[..., 3] = 1
    backdrop = rng.random((5, 6, 4))
    assert np.array_equal(composite(source, backdrop), source)


# What comes out where one of the two is transparent, and where it is opaque; None says nothing simple.
# operator: (source transparent, backdrop transparent, source opaque, backdrop opaque)
IDENTITIES = {
    "clear": ("nothing", "nothing", "nothing", "nothing"),
    "copy": ("nothing", "source", "source", "source"),
    "destination": ("backdrop", "nothing", "backdrop", "backdrop"),
    "source-over": ("backdrop", "source", "source", None),
    "destination-over": ("backdrop", "source", None, "backdrop"),
    "source-in": ("nothing", "nothing", None, "source"),
    "destination-in": ("nothing", "nothing", "backdrop", None),
    "source-out": ("nothing", "source", None, "nothing"),
    "destination-out": ("backdrop", "nothing", "nothing", None),
    "source-atop": ("backdrop", "nothing", None, None),
    "destination-atop": ("nothing", "source", None, None),
    "xor": ("backdrop", "source", None, None),
    "lighter": ("backdrop", "source", None, None),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
@given(seed=SEEDS, premultiplied=st.booleans())
def test_identities_and_annihilators(operator, dtype, seed, premultiplied):
    top = 1.0 if dtype is np.float64 else np.iinfo(dtype).max
    rng = np.random.default_rng(seed)
    for i, expected in enumerate(IDENTITIES[operator]):
        pair = rng.random((2, 4, 5, 4))
        pair[i % 2, ..., 3] = i // 2
        if premultiplied:
            pair[..., :3] *= pair[..., 3:]
        source, backdrop = pair if dtype is np.float64 else np.floor(pair * top + 0.5).astype(dtype)
        if premultiplied:
            source[..., :3], backdrop[..., :3] = (np.minimum(x[..., :3], x[..., 3:]) for x in (source, backdrop))
        result = composite(source, backdrop, operator=operator, premultiplied=premultiplied)
        if expected == "nothing":
            assert (result[..., 3] == 0).all()
        elif expected is not None:
            wanted = {"source": source, "backdrop": backdrop}[expected]
            visible = wanted[..., 3] > 0
            np.testing.assert_allclose(result[visible], wanted[visible], atol=1e-12 if dtype is np.float64 else 0)
            assert (result[~visible][:, 3] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_two_opaque_pictures(dtype):
    rng = np.random.default_rng(0)
    pair = rng.random((2, 4, 5, 4))
    pair[..., 3] = 1
    source, backdrop = pair if dtype is np.float64 else np.floor(pair * 255 + 0.5).astype(dtype)
    for operator, expected in {
        "source-atop": source,
        "source-in": source,
        "destination-atop": backdrop,
        "destination-in": backdrop,
        "destination-over": backdrop,
    }.items():
        assert np.array_equal(composite(source, backdrop, operator=operator), expected)
    for operator in ("xor", "source-out", "destination-out"):
        assert (composite(source, backdrop, operator=operator)[..., 3] == 0).all()
    total = np.minimum(source.astype(float) + backdrop, backdrop[0, 0, 3])
    np.testing.assert_allclose(composite(source, backdrop, operator="lighter"), total, atol=1e-12)


@given(SEEDS)
def test_operators_are_dual(seed):
    rng = np.random.default_rng(seed)
    source, backdrop = rng.random((3, 5, 4)), rng.random((3, 5, 4))
    for name in ("over", "in", "out", "atop"):
        one = composite(source, backdrop, operator=f"source-{name}", premultiplied=True)
        other = composite(backdrop, source, operator=f"destination-{name}", premultiplied=True)
        np.testing.assert_allclose(one, other, atol=1e-12)
    for name in ("xor", "lighter"):
        one = composite(source, backdrop, operator=name, premultiplied=True)
        np.testing.assert_allclose(one, composite(backdrop, source, operator=name, premultiplied=True), atol=1e-12)


@given(SEEDS)
def test_over_is_associative_on_premultiplied_floats_and_within_two_levels_on_8_bit(seed):
    rng = np.random.default_rng(seed)
    layers = rng.random((3, 4, 5, 4))
    layers[..., :3] *= layers[..., 3:]
    for images, tolerance in ((layers, 1e-12), (np.round(layers * 255).astype(np.uint8), 2)):
        a, b, c = images
        left = composite(composite(a, b, premultiplied=True), c, premultiplied=True)
        right = composite(a, composite(b, c, premultiplied=True), premultiplied=True)
        assert np.abs(left.astype(float) - right).max() <= tolerance


@given(SEEDS, st.sampled_from(OPERATORS), st.sampled_from(MODES))
def test_premultiplied_and_straight_agree(seed, operator, mode):
    rng = np.random.default_rng(seed)
    source, backdrop = rng.random((3, 5, 4)), rng.random((3, 5, 4))
    source[0, 0, 3] = backdrop[0, 1, 3] = source[0, 2, 3] = backdrop[0, 2, 3] = 0

    def up(x):
        return np.concatenate([x[..., :3] * x[..., 3:], x[..., 3:]], -1)

    straight = up(composite(source, backdrop, mode=mode, operator=operator))
    multiplied = composite(up(source), up(backdrop), mode=mode, operator=operator, premultiplied=True)
    np.testing.assert_allclose(straight, multiplied, atol=1e-9)


@given(SEEDS, st.sampled_from(OPERATORS), st.sampled_from(MODES), st.booleans(), st.sampled_from(["array", "tensor"]))
def test_premultiplied_colours_are_weighted_by_opacity_and_mask(seed, operator, mode, opaque, kind):
    rng = np.random.default_rng(seed)
    source, backdrop, mask = rng.random((3, 5, 4)), rng.random((3, 5, 4)), rng.random((3, 5))
    source[..., 3] = 1.0 if opaque else source[..., 3]

    def up(x):
        return np.concatenate([x[..., :3] * x[..., 3:], x[..., 3:]], -1)

    options = {"mode": mode, "operator": operator, "opacity": 0.4}
    straight = up(composite(source, backdrop, mask=mask, **options))
    layer, ground = source[..., :3] if opaque else up(source), up(backdrop)
    if kind == "tensor":
        layer, ground, mask = (
            torch.from_numpy(x.copy()) for x in (layer.transpose(2, 0, 1), ground.transpose(2, 0, 1), mask)
        )
    multiplied = composite(layer, ground, mask=mask, premultiplied=True, **options)
    multiplied = multiplied.numpy().transpose(1, 2, 0) if kind == "tensor" else multiplied
    np.testing.assert_allclose(multiplied, straight, atol=1e-9)


def test_premultiplied_grey_at_half_opacity_on_black_is_half_as_light():
    source, black = np.full((1, 1, 4), [100, 100, 100, 255], np.uint8), np.full((1, 1, 4), [0, 0, 0, 255], np.uint8)
    assert composite(source, black, opacity=0.5, premultiplied=True).tolist() == [[[50, 50, 50, 255]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_masks_weigh_float64_pictures_in_float64(dtype):
    mask = np.array([[77]], dtype)
    result = composite(np.ones((1, 1)), np.zeros((1, 1)), mask=mask)
    assert result[0, 0] == 77 / np.iinfo(dtype).max


def test_masks_of_half_precision_pictures_are_not_rounded_to_half_precision():
    one, zero = torch.ones(1, 1, 1, dtype=torch.bfloat16), torch.zeros(1, 1, 1, dtype=torch.bfloat16)
    mask = torch.tensor([[1.0 - 2.0**-9]])  # in bfloat16 that is 1
    assert composite(zero, one, mask=mask, space="linear").item() == pytest.approx(12.92 * 2.0**-9, rel=0.01)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 2.0, -1.0])
@pytest.mark.parametrize("place", ["colour", "alpha"])
def test_values_outside_the_range_are_clipped_before_opacity_counts(value, place):
    source = np.array([[[0.25, 0.5, 0.75, 0.6]]])
    source[..., 3 if place == "alpha" else 0] = value
    if place == "colour":
        source = source[..., :3]
    backdrop = np.array([[[0.3, 0.2, 0.1]]])
    expected = composite(np.clip(source, 0, 1), backdrop, opacity=0.5)
    np.testing.assert_array_equal(composite(source, backdrop, opacity=0.5), expected)
    as_tensors = composite(*(torch.from_numpy(x[0, :, :].T.copy())[..., None] for x in (source, backdrop)), opacity=0.5)
    np.testing.assert_allclose(as_tensors[:, 0, 0].numpy(), expected[0, 0], atol=1e-15)


@given(SEEDS, st.sampled_from(OPERATORS), st.sampled_from(MODES))
def test_results_stay_in_range(seed, operator, mode):
    rng = np.random.default_rng(seed)
    source, backdrop = (np.float32(rng.normal(0.5, 1.0, (3, 5, 4))) for _ in range(2))
    if operator in KEEPING:
        source[..., 3] = np.abs(source[..., 3]) + 0.01
    if operator == "destination":
        return
    result = composite(source, backdrop, mode=mode, operator=operator)
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_backdrop_without_alpha_is_an_opaque_canvas(operator):
    source, backdrop = random_rgba(3), random_rgba(4, channels=3)
    opaque = np.concatenate([backdrop, np.full_like(backdrop[..., :1], 255)], -1)
    expected = exact(source, opaque, operator=operator)
    result = composite(source, backdrop, operator=operator)
    assert result.shape == backdrop.shape
    if operator in {"clear", "copy", "xor"} or operator.endswith(("in", "out")) or operator == "destination-atop":
        black = np.zeros_like(expected)
        black[..., 3] = 255
        expected = composite(expected, black)
        assert np.abs(result.astype(int) - expected[..., :3]).max() <= 1
    else:
        assert np.array_equal(result, expected[..., :3])


@given(SEEDS, st.tuples(st.integers(-9, 9), st.integers(-9, 9)), st.sampled_from(OPERATORS))
def test_offset_is_clipped_to_the_canvas(seed, offset, operator):
    source, backdrop = random_rgba(seed, (3, 5)), random_rgba(seed + 1, (6, 4))
    canvas = np.zeros_like(backdrop)
    for y in range(3):
        for x in range(5):
            if 0 <= y + offset[0] < 6 and 0 <= x + offset[1] < 4:
                canvas[y + offset[0], x + offset[1]] = source[y, x]
    result = composite(source, backdrop, operator=operator, offset=offset)
    expected = exact(canvas, backdrop, operator=operator)
    assert np.array_equal(result, expected)
    tensors = (torch.from_numpy(a.transpose(2, 0, 1) / 255.0) for a in (source, backdrop))
    floats = composite(*tensors, operator=operator, offset=offset).numpy().transpose(1, 2, 0) * 255
    assert np.abs(floats - expected).max() <= 0.5 + 1e-6


@given(SEEDS, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_mask_and_opacity_scale_the_sources_alpha(seed, opacity):
    rng = np.random.default_rng(seed)
    source, backdrop = random_rgba(seed), random_rgba(seed + 1)
    mask = rng.integers(0, 255, (5, 7), dtype=np.uint8, endpoint=True)
    result = composite(source, backdrop, mask=mask, opacity=opacity)
    for y, x in np.ndindex(5, 7):
        weight = Fraction(int(mask[y, x]), 255) * Fraction(opacity)
        at = slice(y, y + 1), slice(x, x + 1)
        assert np.array_equal(result[at], exact(source[at], backdrop[at], weight=weight))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32, np.float64])
def test_masks_of_all_dtypes_mean_the_same(dtype):
    source, backdrop = random_rgba(5, channels=3), random_rgba(6, channels=3)
    flags = np.random.default_rng(0).random((5, 7)) < 0.5
    top = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    result = composite(source, backdrop, mask=(flags * top).astype(dtype))
    assert np.array_equal(result, np.where(flags[..., None], source, backdrop))


def test_a_mask_that_is_nan_hides_the_source_in_integer_images_and_is_kept_in_floats():
    mask = np.array([[np.nan, 1.0]])
    assert composite(np.array([[7, 7]], np.uint8), np.array([[3, 3]], np.uint8), mask=mask).tolist() == [[3, 7]]
    result = composite(np.array([[0.7, 0.7]]), np.array([[0.3, 0.3]]), mask=mask)
    assert np.isnan(result[0, 0])
    assert result[0, 1] == 0.7


@pytest.mark.fault("SixLabors/ImageSharp#2839")
def test_linear_space_mixes_light():
    white, black = np.full((1, 1, 3), 255, np.uint8), np.zeros((1, 1, 3), np.uint8)
    assert composite(black, white, opacity=0.5).tolist() == [[[128, 128, 128]]]
    assert composite(black, white, opacity=0.5, space="linear").tolist() == [[[188, 188, 188]]]


@pytest.mark.parametrize("premultiplied", [False, True])
def test_linear_space_is_the_plain_result_of_decoded_colours(premultiplied):
    rng = np.random.default_rng(0)
    source, backdrop = rng.random((4, 5, 4)), rng.random((4, 5, 4))

    def curve(x, power):
        inside = x <= (0.04045 if power > 1 else 0.0031308)
        high = ((x + 0.055) / 1.055) ** 2.4 if power > 1 else 1.055 * x ** (1 / 2.4) - 0.055
        low = x / 12.92 if power > 1 else x * 12.92
        return np.where(inside, low, high)

    def both(image, power):
        alpha = image[..., 3:]
        color = curve(image[..., :3] / alpha, power) * alpha if premultiplied else curve(image[..., :3], power)
        return np.concatenate([color, alpha], -1)

    if premultiplied:
        source[..., :3] *= source[..., 3:]
        backdrop[..., :3] *= backdrop[..., 3:]
    options = {"mode": "screen", "premultiplied": premultiplied}
    expected = both(composite(both(source, 2), both(backdrop, 2), **options), 0.5)
    np.testing.assert_allclose(composite(source, backdrop, space="linear", **options), expected, atol=1e-12)


@pytest.mark.fault("psd-tools/psd-tools#309")
@pytest.mark.fault("mne-tools/mne-python#13714")
@pytest.mark.parametrize("mode", MODES)
def test_no_nan_and_no_error_at_the_corners_for_any_number_of_channels(mode):
    corners = np.array([0.0, 1 / 255, 1.0])
    for channels in (1, 3):
        grid = np.stack(np.meshgrid(*[corners] * 4, indexing="ij"), -1).reshape(9, 9, 4)
        for dtype in (np.float32, np.float64):
            source = np.concatenate([np.repeat(grid[..., :1], channels, -1), grid[..., 2:3]], -1).astype(dtype)
            backdrop = np.concatenate([np.repeat(grid[..., 1:2], channels, -1), grid[..., 3:]], -1).astype(dtype)
            for operator in OPERATORS:
                with np.errstate(all="raise", under="ignore"):
                    assert np.isfinite(composite(source, backdrop, mode=mode, operator=operator)).all()


@pytest.mark.parametrize("mode", ["hue", "saturation", "color", "luminosity"])
def test_non_separable_modes_of_grey_pictures_are_those_of_equal_channels(mode):
    source, backdrop = random_rgba(8, channels=2), random_rgba(9, channels=2)
    colored = [np.concatenate([np.repeat(x[..., :1], 3, -1), x[..., 1:]], -1) for x in (source, backdrop)]
    assert np.array_equal(composite(source, backdrop, mode=mode), composite(*colored, mode=mode)[..., 2:])


def test_a_grey_source_serves_a_coloured_backdrop():
    source, backdrop = random_rgba(10, channels=2), random_rgba(11)
    colored = np.concatenate([np.repeat(source[..., :1], 3, -1), source[..., 1:]], -1)
    for mode in ("normal", "soft-light", "hue"):
        assert np.array_equal(composite(source, backdrop, mode=mode), composite(colored, backdrop, mode=mode))
    floats = [torch.from_numpy(x.transpose(2, 0, 1) / 255.0) for x in (source, colored, backdrop)]
    assert torch.equal(composite(floats[0], floats[2]), composite(floats[1], floats[2]))


@given(random_images(channels=4), SEEDS, st.sampled_from(MODES), st.sampled_from(OPERATORS))
def test_numpy_pillow_and_tensor_give_the_same_integers(backdrop, seed, mode, operator):
    source = random_rgba(seed, (4, 6))
    options = {"mode": mode, "operator": operator, "opacity": 0.7, "offset": (1, -1)}
    result = composite(source, backdrop, **options)
    pillow = composite(Image.fromarray(source), Image.fromarray(backdrop), **options)
    assert pillow.mode == "RGBA"
    assert np.array_equal(np.asarray(pillow), result)
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (source, backdrop)]
    assert np.array_equal(composite(*tensors, **options).numpy().transpose(1, 2, 0), result)
    batch = composite(tensors[0][None], torch.stack([tensors[1], tensors[1].flip(-1)]), **options)
    assert torch.equal(batch[0], composite(*tensors, **options))
    assert torch.equal(batch[1], composite(tensors[0], tensors[1].flip(-1), **options))


def test_the_result_does_not_depend_on_threads():
    source, backdrop = random_rgba(12, (200, 301)), random_rgba(13, (200, 301))
    one = composite(source, backdrop, mode="soft-light")
    assert np.array_equal(one, composite(source, backdrop, mode="soft-light", threads=3))


def test_inputs_are_not_written_and_odd_memory_is_read():
    source, backdrop = random_rgba(14, (6, 8)), random_rgba(15, (6, 8))
    expected = composite(source, backdrop)
    source.flags.writeable = backdrop.flags.writeable = False
    assert np.array_equal(composite(source, backdrop), expected)
    assert np.array_equal(composite(np.asfortranarray(source), np.asfortranarray(backdrop)), expected)
    assert np.array_equal(composite(source[::-1, ::-1], backdrop[::-1, ::-1])[::-1, ::-1], expected)
    words = [x.astype(np.uint16) * 257 for x in (source, backdrop)]
    assert np.array_equal(composite(*[w.astype(">u2") for w in words]), composite(*words))


def test_channels_last_tensors_stay_so():
    images = torch.rand(2, 4, 5, 6).to(memory_format=torch.channels_last)
    assert composite(images, images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_tensors_keep_their_dtype(dtype):
    generator = torch.Generator().manual_seed(0)
    source, backdrop = (torch.rand(4, 3, 5, generator=generator).to(dtype) for _ in range(2))
    result = composite(source, backdrop)
    assert result.dtype == dtype
    expected = composite(source.double(), backdrop.double())
    torch.testing.assert_close(result.double(), expected, atol=2 * torch.finfo(dtype).eps, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_right_away_from_the_kinks(mode):
    generator = torch.Generator().manual_seed(3)
    source, backdrop = (torch.rand(2, 4, 2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    for image in (source, backdrop):
        image.mul_(0.9).add_(0.05).requires_grad_()
    mask = torch.rand(2, 3, generator=generator, dtype=torch.float64).requires_grad_()

    def smooth(s, b, m):
        return composite(s, b, mode=mode, mask=m, opacity=0.8)

    assert torch.autograd.gradcheck(smooth, (source, backdrop, mask))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("premultiplied", [False, True])
def test_gradients_of_the_operators(operator, premultiplied):
    generator = torch.Generator().manual_seed(4)
    source, backdrop = (torch.rand(4, 2, 3, generator=generator, dtype=torch.float64) * 0.9 + 0.05 for _ in range(2))
    if premultiplied:
        source[:3] *= source[3:] * 0.9
        backdrop[:3] *= backdrop[3:] * 0.9

    def function(s, b):
        return composite(s, b, mode="multiply", operator=operator, premultiplied=premultiplied, space="linear")

    assert torch.autograd.gradcheck(function, (source.requires_grad_(), backdrop.requires_grad_()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("space", ["srgb", "linear"])
def test_gradients_are_finite_at_the_kinks_and_corners(mode, space):
    values = torch.tensor([0.0, 0.25, 0.5, 1.0])
    grid = torch.stack(torch.meshgrid(*[values] * 4, indexing="ij")).reshape(4, 16, 16)
    for operator in set(OPERATORS) - {"destination"}:  # which does not look at the source
        source = torch.stack([grid[0], grid[1], grid[0], grid[2]]).requires_grad_()
        backdrop = torch.stack([grid[1], grid[0], grid[0], grid[3]]).requires_grad_()
        composite(source, backdrop, mode=mode, operator=operator, space=space).sum().backward()
        assert source.grad.isfinite().all()
        assert backdrop.grad.isfinite().all()


def test_a_source_that_is_wholly_transparent_still_learns_its_alpha():
    source = torch.tensor([0.9, 0.0]).reshape(2, 1, 1).requires_grad_()
    for space in ("srgb", "linear"):
        backdrop = torch.tensor([[[0.2]]])
        (gradient,) = torch.autograd.grad(composite(source, backdrop, space=space).sum(), source)
        assert gradient[1].item() > 0.5


@pytest.mark.parametrize("shape", [(0, 5, 4), (3, 0, 4), (1, 1, 4), (1, 9, 4)])
def test_small_and_empty_pictures(shape):
    image = random_rgba(1, shape[:2])
    assert composite(image, image, mode="overlay", operator="xor").shape == shape
    assert composite(torch.zeros(0, 3, 4, 5), torch.zeros(0, 3, 4, 5)).shape == (0, 3, 4, 5)
    assert composite(random_rgba(0, (0, 0)), random_rgba(2, (2, 3))).shape == (2, 3, 4)


def test_padding_of_rgbx_is_carried_along():
    backdrop = Image.fromarray(random_rgba(1)).convert("RGB").convert("RGBX")
    result = composite(Image.new("L", (2, 2), 9), backdrop)
    assert result.mode == "RGBX"
    assert result.getpixel((0, 0))[:3] == (9, 9, 9)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.fault("python-pillow/Pillow#9051")
def test_pillow_modes_with_plain_colours_work(mode):
    image = Image.new(mode, (3, 2), 0)
    result = composite(image, image)
    assert (result.mode, result.size) == (mode, (3, 2))


@pytest.mark.parametrize("mode", ["P", "PA", "CMYK", "RGBa", "YCbCr", "LAB", "HSV"])
def test_pillow_modes_without_plain_colours_name_a_conversion(mode):
    with pytest.raises(TypeError, match=r"`backdrop` .*; use `"):
        composite(Image.new("RGB", (2, 2)), Image.new(mode, (2, 2)))


def test_data_range_serves_other_integers():
    source, backdrop = np.array([[100, -100]], np.int16), np.array([[0, 0]], np.int16)
    assert composite(source, backdrop, opacity=0.5, data_range=(-100, 100)).tolist() == [[50, -50]]
    with pytest.raises(ValueError, match="data_range"):
        composite(source, backdrop)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "dissolve"}, ValueError, "`mode` must be one of"),
        ({"operator": "plus"}, ValueError, "`operator` must be one of"),
        ({"opacity": 1.5}, ValueError, r"`opacity` must lie in \[0, 1\]"),
        ({"space": "lab"}, ValueError, "`space` must be one of"),
        ({"offset": 3}, TypeError, "`offset` must be two integers"),
        ({"offset": (0.5, 1)}, TypeError, r"`offset\[0\]` must be an integer"),
        ({"threads": 0}, ValueError, "`threads` must be at least 1"),
        ({"mask": np.ones((3, 3))}, ValueError, "`mask` must have the image's height and width"),
        ({"mask": np.ones((5, 7), np.int64)}, TypeError, "`mask` must be"),
    ],
)
def test_wrong_options_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        composite(random_rgba(0), random_rgba(1), **options)


def test_pictures_that_do_not_fit_are_refused():
    image = random_rgba(0)
    with pytest.raises(TypeError, match="`source` must have the kind of `backdrop`"):
        composite(Image.fromarray(image), image)
    with pytest.raises(TypeError, match="`source` must have the dtype of `backdrop`, uint8; got uint16"):
        composite(image.astype(np.uint16), image)
    with pytest.raises(ValueError, match="colour channels"):
        composite(image, image[..., :1])
    with pytest.raises(ValueError, match="one image or 2"):
        composite(torch.zeros(3, 1, 2, 2), torch.zeros(2, 1, 2, 2))
    with pytest.raises(ValueError, match="one or three colour channels"):
        composite(image, image, mode="hue", alpha=False)
    with pytest.raises(TypeError, match="must be a Pillow image"):
        composite([[1]], image)
