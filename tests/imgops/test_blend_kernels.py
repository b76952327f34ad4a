from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import _merge as merge
from cvkit.imgops import composite
from cvkit.imgops._kernels import blending as kernels
from reference.imgops_compositing import pillow_over_pixel
from strategies import SEEDS

ALL = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")


@pytest.fixture
def plain(monkeypatch):
    """The same call without kernels."""

    def call(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(merge, "_merge_bytes", lambda *_: None)
            return composite(*arguments, **options)

    return call


def test_the_table_of_shares_gives_exactly_rounded_colours_for_all_alphas_and_differences():
    table = kernels._share_table().reshape(256, 256).astype(np.int64)
    difference = np.arange(-255, 256)
    backdrop = np.arange(256)[:, None]
    for source in range(256):
        whole = 255 * source + backdrop * (255 - source)
        whole[whole == 0] = 1
        exact = (2 * difference * 255 * source + whole) // (2 * whole)
        assert np.array_equal((difference * table[source][:, None] + int(kernels._HALF)) >> 24, exact), source


@pytest.mark.parametrize("opacity", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("mode", sorted(merge.BLEND))
def test_opaque_kernels_equal_the_plain_path_for_all_pairs(mode, opacity, plain):
    backdrop, source = ALL
    result = composite(source, backdrop, mode=mode, opacity=opacity)
    assert np.array_equal(result, plain(source, backdrop, mode=mode, opacity=opacity))


def test_adding_saturates_for_all_pairs(plain):
    backdrop, source = ALL
    result = composite(source, backdrop, operator="lighter")
    assert np.array_equal(result, np.minimum(source.astype(int) + backdrop, 255))
    assert np.array_equal(result, plain(source, backdrop, operator="lighter"))


@pytest.mark.parametrize("level", [0, 1, 100, 255])
def test_masks_equal_the_plain_path_for_all_pairs(level, plain):
    backdrop, mask = ALL
    source = np.full_like(backdrop, level)
    assert np.array_equal(composite(source, backdrop, mask=mask), plain(source, backdrop, mask=mask))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_masks_equal_the_plain_path(dtype, channels, plain):
    rng = np.random.default_rng(channels)
    source, backdrop = rng.integers(0, 256, (2, 60, 70, channels), dtype=np.uint8)
    mask = (rng.integers(-2, 258, (60, 70)) / 255).astype(dtype)
    mask[:2] = [[np.nan], [0.5]]
    result = composite(source, backdrop, mask=mask)
    assert np.array_equal(result, plain(source, backdrop, mask=mask))
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (source, backdrop)]
    assert np.array_equal(composite(*tensors, mask=mask, threads=2).numpy().transpose(1, 2, 0), result)


@given(SEEDS, st.sampled_from([1, 3, 4]), st.sampled_from([1, 3]), st.booleans())
def test_alpha_over_opaque_equals_the_plain_path(seed, source_channels, channels, planar):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 2))
    source_channels = 2 if source_channels == 4 and channels == 1 else source_channels
    source_channels = 1 if channels == 1 and source_channels == 3 else source_channels
    source = rng.integers(0, 256, (*shape, source_channels), dtype=np.uint8)
    backdrop = rng.integers(0, 256, (*shape, channels), dtype=np.uint8)
    if planar:
        source, backdrop = (torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (source, backdrop))
    result = composite(source, backdrop, offset=(1, -1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "_merge_bytes", lambda *_: None)
        assert np.array_equal(result, composite(source, backdrop, offset=(1, -1)))


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (90, 200)])
def test_words_equal_the_plain_path(opaque, shape, plain):
    rng = np.random.default_rng(shape[0])
    source, backdrop = rng.integers(0, 256, (2, *shape, 4), dtype=np.uint8)
    for image in (source, backdrop):
        image[rng.random(shape) < 0.2, 3] = 0
        image[rng.random(shape) < 0.2, 3] = 255
    if opaque:
        backdrop[..., 3] = 255
    expected = plain(source, backdrop)
    assert np.array_equal(composite(source, backdrop), expected)
    assert np.array_equal(composite(source, backdrop, threads=3), expected)
    assert np.array_equal(composite(source[::-1, ::2], backdrop[::-1, ::2]), expected[::-1, ::2])
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (source, backdrop)]
    assert np.array_equal(composite(*tensors).numpy().transpose(1, 2, 0), expected)


def test_opaque_words_for_all_alphas_and_colours():
    alpha, color = ALL
    for level in (0, 1, 99, 254, 255):
        source = np.stack([color, 255 - color, color // 2, alpha], -1)
        backdrop = np.stack([np.full_like(color, level)] * 3 + [np.full_like(color, 255)], -1)
        a = alpha[..., None].astype(int)
        exact = (2 * (a * source[..., :3] + (255 - a) * level) + 255) // 510
        assert np.array_equal(composite(source, backdrop)[..., :3], exact)


def test_other_byte_orders_go_the_plain_way(monkeypatch):
    source, backdrop = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 4), dtype=np.uint8)
    expected = composite(source, backdrop)
    monkeypatch.setattr(kernels.sys, "byteorder", "big")
    assert np.array_equal(composite(source, backdrop), expected)


def test_threads_change_nothing():
    source, backdrop = np.random.default_rng(0).integers(0, 256, (2, 401, 311, 3), dtype=np.uint8)
    mask = backdrop[..., 0]
    for options in (
        {"mode": "multiply"},
        {"mode": "overlay"},
        {"opacity": 0.3},
        {"mask": mask},
        {"operator": "lighter"},
    ):
        one = composite(source, backdrop, **options)
        assert np.array_equal(one, composite(source, backdrop, threads=3, **options))


@given(st.floats(0, 1))
def test_snapped_shares_give_the_same_results_and_stay_clear_of_halves(t):
    share = kernels.snapped_share(t)
    differences = np.arange(1, 256)
    places = differences * share - 0.5
    gap = np.abs(places - np.round(places))
    on_half = gap < 1e-9
    assert (gap[~on_half] > 1 / 1100).all()
    assert abs(share - t) <= 1 / 510


@given(st.floats(0, 1) | st.fractions(0, 1, max_denominator=510).map(float))
def test_both_kernels_of_mixing_are_exactly_rounded_halves_up(t):
    backdrop, source = (x.reshape(-1) for x in ALL)
    share = Fraction(t).limit_denominator(510)
    share = share if abs(share - Fraction(t)) < Fraction(1, 1 << 41) else Fraction(t)
    difference = np.arange(-255, 256)
    steps = np.array([int((int(d) * share + Fraction(1, 2)) // 1) for d in difference])
    exact = backdrop + steps[source.astype(int) - backdrop + 255]
    out = np.empty(backdrop.size, np.uint8)
    kernels._mix_floats(t)(backdrop, source, out)
    assert np.array_equal(out, exact)
    fraction = kernels.small_fraction(t)
    if fraction is not None:
        kernels._mix_words(*fraction)(backdrop, source, out)
        assert np.array_equal(out, exact)


def test_most_shares_are_small_fractions():
    assert [kernels.small_fraction(k / 100) is not None for k in range(101)] == [True] * 101
    assert kernels.small_fraction(0.3) == (3, 10)
    assert kernels.small_fraction(1 / 3) == (1, 3)
    assert kernels.small_fraction(0.501) == (128, 255)
    assert kernels.small_fraction(37 / 257) is None
    assert np.mean([kernels.small_fraction(t) is None for t in np.random.default_rng(0).random(2000)]) < 0.4


# Pillow's rule


@given(SEEDS, st.sampled_from([2, 4]))
@pytest.mark.fault("python-pillow/Pillow#9051")
def test_method_pillow_is_pillows_rule(seed, channels):
    rng = np.random.default_rng(seed)
    source, backdrop = rng.integers(0, 256, (2, 5, 6, channels), dtype=np.uint8)
    for image in (source, backdrop):
        image[rng.random((5, 6)) < 0.2, -1] = 0
    result = composite(source, backdrop, method="pillow")
    for at in np.ndindex(5, 6):
        s, b = source[at].tolist(), backdrop[at].tolist()
        color, alpha = pillow_over_pixel(s[:-1], s[-1], b[:-1], b[-1])
        assert result[at].tolist() == [*color, alpha]
    pictures = Image.fromarray(source), Image.fromarray(backdrop)
    assert np.array_equal(np.asarray(composite(*pictures, method="pillow")), result)
    assert np.array_equal(np.asarray(Image.alpha_composite(*pictures[::-1])), result)


def test_method_pillow_with_an_offset_a_batch_and_a_grey_source():
    rng = np.random.default_rng(0)
    source, backdrop = rng.integers(0, 256, (2, 5, 6, 4), dtype=np.uint8)
    picture = Image.fromarray(backdrop)
    picture.alpha_composite(Image.fromarray(source[:3, :4]), (2, 1))
    assert np.array_equal(composite(source[:3, :4], backdrop, offset=(1, 2), method="pillow"), np.asarray(picture))
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (source, backdrop)]
    batch = composite(tensors[0], torch.stack([tensors[1]] * 2), method="pillow")
    assert np.array_equal(batch[1].numpy().transpose(1, 2, 0), composite(source, backdrop, method="pillow"))
    grey = composite(source[..., 2:], backdrop, method="pillow")
    assert np.array_equal(grey, composite(source[..., [2, 2, 2, 3]], backdrop, method="pillow"))
    assert np.array_equal(composite(source, backdrop, offset=(9, 9), method="pillow"), backdrop)


def test_method_pillow_without_its_back_door(monkeypatch):
    source, backdrop = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 4), dtype=np.uint8)
    expected = composite(source, backdrop, method="pillow")
    assert kernels._pillow_writes()

    def refuse(*_):
        raise AttributeError

    monkeypatch.setattr(kernels, "_write", refuse)
    kernels._pillow_writes.cache_clear()
    assert np.array_equal(composite(source, backdrop, method="pillow"), expected)
    kernels._pillow_writes.cache_clear()


@pytest.mark.parametrize(
    "options", [{"mode": "screen"}, {"opacity": 0.5}, {"space": "linear"}, {"premultiplied": True}, {"operator": "xor"}]
)
def test_method_pillow_has_no_other_options(options):
    image = np.zeros((2, 2, 4), np.uint8)
    with pytest.raises(ValueError, match="`method` 'pillow' is for 8-bit"):
        composite(image, image, method="pillow", **options)
    with pytest.raises(ValueError, match="`method` 'pillow' is for 8-bit"):
        composite(image[..., :3], image[..., :3], method="pillow")
