"""Read and write image files. Every file is untrusted; what cannot be read whole raises one `ImageError` naming it.

Read are PNG, JPEG, WebP, BMP, GIF and the binary or plain PBM, PGM and PPM files, and nothing else: the fewer
decoders see a strange file, the better. Nothing global of Pillow is touched.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from cvkit._checks import check_choice, check_instance, check_integer, shown
from cvkit._errors import ImageError
from cvkit._files import replacing

if TYPE_CHECKING:
    from cvkit._types import Array, Image, StrPath

__all__ = ["ImageError", "load_image", "save_image", "to_pillow"]

Mode = Literal["L", "LA", "RGB", "RGBA"]

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
_MAX_PIXELS = 89_478_485  # above this Pillow suspects a decompression bomb (256 MB of RGB), but merely warns

# What each format holds without loss of channels or depth.
_WRITABLE = {
    ".png": ("PNG", {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}),
    ".jpg": ("JPEG", {"L", "RGB"}),
    ".jpeg": ("JPEG", {"L", "RGB"}),
    ".webp": ("WEBP", {"RGB", "RGBA"}),
    ".bmp": ("BMP", {"1", "L", "P", "RGB"}),
    ".gif": ("GIF", {"1", "L", "P"}),
    ".pgm": ("PPM", {"L", "I;16"}),
    ".ppm": ("PPM", {"RGB"}),
}


def load_image(path: StrPath, *, mode: Mode | None = None, max_pixels: int = _MAX_PIXELS) -> PillowImage.Image:
    """Read the first picture of an image file, upright.

    The EXIF orientation is applied. Palettes become RGB or RGBA, 1 bit becomes L, CMYK becomes RGB (without its
    profile), a transparent colour becomes an alpha channel; 16-bit grey stays 16 bit. Colour profile
    (``info["icc_profile"]``), resolution (``info["dpi"]``) and EXIF bytes (``info["exif"]``) are kept.

    Parameters
    ----------
    path : path-like
        A PNG, JPEG, WebP, BMP, GIF, PBM, PGM or PPM file; its contents count, not its name.
    mode : {'L', 'LA', 'RGB', 'RGBA'}, optional
        Convert to this 8-bit mode. By default the file's own: 'L', 'LA', 'RGB', 'RGBA' or 'I;16'.
    max_pixels : int, default 89478485
        Files with more pixels are refused before they are decoded. Pillow's own limit, twice its
        ``MAX_IMAGE_PIXELS``, holds as well.

    Returns
    -------
    PIL.Image.Image
        In memory, independent of the file.

    Raises
    ------
    cvkit.io.ImageError
        If the file is missing, empty, truncated, damaged, too large or of another format, or holds more than 8 bits
        in several channels (Pillow would silently drop the lower half; ``mode=`` accepts that).

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "grey.png"
    >>> save_image(np.full((2, 3), 65535, np.uint16), path)
    >>> load_image(path).mode, load_image(path, mode="RGB").getpixel((0, 0))
    ('I;16', (255, 255, 255))
    >>> folder.cleanup()
    """
    if mode is not None:
        check_choice("mode", mode, ("L", "LA", "RGB", "RGBA"))
    max_pixels = check_integer("max_pixels", max_pixels, minimum=1)
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageError(f"{path}: {'no such file' if not path.exists() else 'not a regular file'}")
        with path.open("rb") as file:
            return _read(file, path, mode, max_pixels)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error


def save_image(image: Image, path: StrPath, *, quality: int | None = None) -> None:
    """Write an image file, whole or not at all: after an error the old file is still there.

    Colour profile and resolution of a Pillow image are kept where the format has a place for them. Nothing is converted
    silently: what the format cannot hold (alpha in JPEG, 16 bit in most) is refused.

    Parameters
    ----------
    image : Pillow image, ndarray of shape (H, W) or (H, W, C), Tensor of shape (H, W), (C, H, W) or (1, C, H, W)
        See `to_pillow` for the dtypes.
    path : path-like
        Ends in .png, .jpg, .jpeg, .webp, .bmp, .gif, .pgm or .ppm, in any case. Its folder must exist.
    quality : int, optional
        1 to 100 for JPEG (95 by default) and WebP (lossless by default).

    Raises
    ------
    ValueError
        For a name without a known ending, or a mode that the format cannot hold.
    cvkit.io.ImageError
        If writing fails.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(np.zeros((4, 6, 3)), pathlib.Path(folder) / "black.png")
    ...     load_image(pathlib.Path(folder) / "black.png").size
    (6, 4)
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITABLE:
        raise ValueError(f"`path` must end in one of {', '.join(_WRITABLE)}; got {shown(str(path))}")
    if quality is not None:
        quality = check_integer("quality", quality, minimum=1, maximum=100)
    kind, modes = _WRITABLE[path.suffix.lower()]
    picture = to_pillow(image)
    if picture.mode not in modes:
        raise ValueError(
            f"`image` has mode {picture.mode!r}, which {path.suffix.lower()} cannot hold; "
            f"convert it to one of {', '.join(sorted(modes))}, or save as .png"
        )
    try:
        with replacing(path) as part, part.open("wb") as file:
            picture.save(file, kind, **_options(picture, kind, quality))
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


def to_pillow(image: Image) -> PillowImage.Image:
    """Return an image of any kind as a Pillow image.

    Parameters
    ----------
    image : Pillow image, ndarray of shape (H, W) or (H, W, C), Tensor of shape (H, W), (C, H, W) or (1, C, H, W)
        1 to 4 channels; uint8, bool (0 and 255), floats in [0, 1] (rounded half up to 8 bit), or uint16 of one channel.
        Tensors may be on any device.

    Returns
    -------
    PIL.Image.Image
        Of mode L, LA, RGB, RGBA or I;16; a Pillow image as it is.

    Raises
    ------
    TypeError
        For another kind or dtype.
    ValueError
        For another shape, or floats outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> to_pillow(np.array([[0.0, 0.5, 1.0]])).getpixel((1, 0))
    128
    """
    if isinstance(image, PillowImage.Image):
        return image
    array = _as_array(image)
    height, width = array.shape[:2]
    count = array.shape[2] if array.ndim == 3 else 1
    if array.dtype == np.uint16:
        if count != 1:
            raise ValueError(f"`image` of dtype uint16 must have one channel for Pillow; got {count}")
        return PillowImage.frombytes("I;16", (width, height), array.astype("<u2").tobytes())
    if array.dtype.kind == "f":
        if not np.all((array >= 0) & (array <= 1)):
            raise ValueError("`image` of floats must lie in [0, 1]")
        array = np.floor(array.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    elif array.dtype.kind == "b":
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise TypeError(f"`image` must be uint8, uint16, bool or floating; got dtype {array.dtype}")
    return PillowImage.frombytes(("L", "LA", "RGB", "RGBA")[count - 1], (width, height), array.tobytes())


def _as_array(image: Any) -> Array:
    """Return an array or a tensor as an array with channels last."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(image, torch.Tensor):
        tensor = image.detach()
        tensor = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
        tensor = tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor
        array: Array = (tensor.float() if tensor.dtype in {torch.bfloat16, torch.float16} else tensor).cpu().numpy()
    else:
        array = check_instance("image", image, np.ndarray, "a Pillow image, an array or a tensor")
    if array.ndim not in {2, 3} or 0 in array.shape or (array.ndim == 3 and array.shape[2] > 4):
        raise ValueError(f"`image` must be one picture with 1 to 4 channels; got shape {tuple(image.shape)}")
    return array


def _read(file: BinaryIO, path: Path, mode: Mode | None, max_pixels: int) -> PillowImage.Image:
    head = file.read(32)
    if not head:
        raise ImageError(f"{path}: the file is empty")
    file.seek(0)
    try:
        with PillowImage.open(file, formats=_FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise ImageError(f"{path}: {width} x {height} pixels are more than `max_pixels` ({max_pixels})")
            if mode is None and (_is_deep_png(head) or (opened.format == "PPM" and _is_deep_ppm(file))):
                raise ImageError(f"{path}: 16-bit colour is not read; pass mode='RGB' to accept 8 bits of it")
            opened.load()
            picture = _upright(opened)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not a PNG, JPEG, WebP, BMP, GIF, PGM or PPM file, or damaged") from None
    except Exception as error:
        # Decoders of damaged files raise anything from SyntaxError to struct.error; bombs are among them.
        raise ImageError(f"{path}: damaged or refused: {error}") from error
    return _plain(picture, path, mode)


def _is_deep_png(head: bytes) -> bool:
    """Say whether a PNG holds 16 bits in several channels, which Pillow reduces to 8 without a word."""
    # Signature (8), length (4), "IHDR" (4), width (4), height (4), bit depth, colour type: 2 RGB, 4 grey and alpha, 6
    # RGBA.
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR" and head[24] == 16 and head[25] in {2, 4, 6}


def _is_deep_ppm(file: BinaryIO) -> bool:
    """Say whether a PPM has colours above 255: magic, width, height and maximum, with comments between."""
    place = file.tell()
    file.seek(0)
    head = file.read(65536)
    file.seek(place)
    if head[:2] not in {b"P3", b"P6"}:
        return False
    words = b" ".join(line.split(b"#")[0] for line in head.split(b"\n")).split()
    return len(words) > 3 and words[3].isdigit() and int(words[3][:9]) > 255


def _upright(opened: PillowImage.Image) -> PillowImage.Image:
    """Return a copy in memory with its EXIF orientation applied."""
    try:
        return ImageOps.exif_transpose(opened)
    except Exception:  # noqa: BLE001 - unreadable EXIF says nothing about orientation, and the pixels are whole
        return opened.copy()


def _plain(picture: PillowImage.Image, path: Path, mode: Mode | None) -> PillowImage.Image:
    """Reduce the modes that files hold to L, LA, RGB, RGBA and I;16, and the information to what is documented."""
    if picture.mode == "F":
        raise ImageError(f"{path}: floating-point PFM is not read")
    info: dict[str | tuple[int, int], Any] = {
        key: picture.info[key] for key in ("icc_profile", "dpi", "exif") if picture.info.get(key)
    }
    transparent = picture.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in picture.info
    if picture.mode in {"CMYK", "YCbCr", "LAB", "HSV"}:
        info.pop("icc_profile", None)
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        deep = np.asarray(picture).astype("<u2")
        if mode is not None:
            # 65535 / 257 = 255: the exactly rounded 8-bit value.
            grey = (deep.astype(np.uint32) + 128) // 257
            picture = PillowImage.frombytes("L", picture.size, grey.astype(np.uint8).tobytes())
        else:
            picture = PillowImage.frombytes("I;16", picture.size, deep.tobytes())
    elif picture.mode in {"1", "L", "LA", "La"}:
        picture = picture.convert("LA" if transparent else "L")
    else:
        picture = picture.convert("RGBA" if transparent else "RGB")
    if mode is not None and picture.mode != mode:
        picture = picture.convert(mode)
    picture.info = info
    return picture


def _options(picture: PillowImage.Image, kind: str, quality: int | None) -> dict[str, Any]:
    """Return Pillow's options for a format."""
    options: dict[str, Any] = {}
    if kind in {"PNG", "JPEG", "WEBP"} and picture.info.get("icc_profile"):
        options["icc_profile"] = picture.info["icc_profile"]
    dpi = picture.info.get("dpi")
    if kind in {"PNG", "JPEG", "BMP"} and dpi is not None and all(0 < float(d) < 65536 for d in dpi):
        options["dpi"] = tuple(float(d) for d in dpi)
    if kind == "JPEG":
        options |= {"quality": 95 if quality is None else quality, "subsampling": 0 if (quality or 95) >= 90 else 2}
    if kind == "WEBP":
        options |= {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    return options
