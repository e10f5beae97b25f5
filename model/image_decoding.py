"""From the bytes of a picture file to upright 8-bit RGB. What is wrong with a file but not with its pixels loses no picture."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .decoding_limits import bounded_file, check_opened, check_size, too_large
from .errors import PictureError
from .image_colours import MAX_PROFILE_BYTES, deep_to_8_bits, strips, to_8_bits, to_srgb
from .image_formats import FORMATS, START_BYTES, recognised_format, starts_as_video


PNG_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")  # eXIf for the orientation
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLES = 256, 257, 258, 262, 277  # tags
MAX_DEEP_BYTES = 300_000_000  # 50 megapixels of three channels of 16 bits


class PictureDamagedError(PictureError):
    """The file is of a format that can be read, but its pixels cannot."""


def decode(data: bytes, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an encoded picture, which messages call `name`.

    Raises:
        PictureError: it is no picture, is damaged, is too large, or would take far more time or memory than its size
            suggests.
    """
    if not data:
        raise PictureError(f"Expected a picture, but {name} is empty (0 bytes). Save or upload it again.")
    kind = recognised_format(data)
    if kind is None and starts_as_video(data[:START_BYTES]):
        raise PictureError(
            f"Expected a picture, but {name} is a video or sound. Take a single frame of it; `python -m scripts.predict` "
            "reads whole videos."
        )
    if kind is None:
        raise PictureError(
            f"Expected a picture ({', '.join(FORMATS)}), but {name} is none of these, whatever its name says. "
            "Save it as JPEG or PNG."
        )
    try:
        return image_to_rgb(_open(data, kind, name), name)
    except PictureDamagedError:
        image_rgb = _recovered(data, kind, name)
        if image_rgb is None:
            raise
        return image_rgb


def image_to_rgb(image: PIL.Image.Image, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an opened picture.

    Raises:
        PictureError: it has no pixels, too many, asks for too much, or its pixels cannot be read.
    """
    check_opened(image, name)
    if image.width * image.height == 0:
        raise PictureError(
            f"Expected a picture, but {name} is {image.width} x {image.height} pixels. Give one with pixels."
        )
    try:
        image.load()
        upright, profile = _upright(image), image.info.get("icc_profile")
        width, height = upright.size
        image_rgb = np.empty((height, width, 3), np.uint8)
        if image.mode.startswith(("I", "F")):
            deep_to_8_bits(image, upright, image_rgb)
            return image_rgb
        for rows in strips(
            height, width
        ):  # the whole picture in several modes at once would take several times the memory
            strip = upright.crop((0, rows.start, width, rows.stop))
            if strip.has_transparency_data:
                strip = _over_white(strip)
            elif strip.mode not in ("RGB", "L", "CMYK"):
                strip = strip.convert("RGB")
            image_rgb[rows] = np.asarray(to_srgb(strip, profile))
        return image_rgb
    except PictureError:
        raise
    except Exception as error:  # many types: Pillow reads truncated and corrupt data here
        raise PictureDamagedError(_damaged(name, error)) from error


def _open(data: bytes, kind: str, name: str) -> PIL.Image.Image:
    # Pillow's AVIF reader also accepts the brands mif1 and msf1 of HEIF files, and leaves those to the next reader.
    readers = (kind, "HEIF") if kind == "AVIF" and "HEIF" in FORMATS else (kind,)
    try:
        return PIL.Image.open(bounded_file(data, kind, name), formats=readers)
    except PictureError:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise too_large(name, "far more") from None
    except PIL.UnidentifiedImageError:  # its message names a buffer's address, and no reason
        raise PictureDamagedError(
            f"Expected a picture, but {name} is a damaged {kind} file, or one of a kind that cannot be read. "
            "Save it as JPEG or PNG."
        ) from None
    except Exception as error:  # Pillow's readers raise many types on damaged headers
        raise PictureDamagedError(_damaged(name, error)) from error


def _recovered(data: bytes, kind: str, name: str) -> np.ndarray | None:
    """A picture that Pillow refused for something else than its pixels; None if some of them are missing."""
    try:
        if kind == "PNG":  # metadata of more than Pillow unpacks (1 MB), and wrong checksums
            image = _open(_png_of_pixels(data), kind, name)
            image.info["icc_profile"] = _png_profile(data)
            return image_to_rgb(image, name)
        if kind == "JPEG":  # its last two bytes, which hold no pixels, are missing
            # libjpeg fills up missing pixels and only warns: where any are missing, more bytes make other pixels.
            ends = (b"\xff\xd9", b"\x55" * 64 + b"\xff\xd9")
            one, other = (image_to_rgb(_open(data.rstrip(b"\xff") + end, kind, name), name) for end in ends)
            return one if np.array_equal(one, other) else None
        if kind == "TIFF":  # Pillow knows fewer combinations of bits, sample formats and byte orders than libtiff
            return _tiff_by_opencv(data, name)
    except PictureDamagedError:
        pass
    return None


def _png_of_pixels(data: bytes) -> bytes:
    """A PNG without the chunks that hold neither pixels nor orientation, and with correct checksums.

    The checksum inside the compressed pixels still tells whether they are damaged.
    """
    parts = [data[:8]]
    for kind, content, length in _png_chunks(data):
        if kind in PNG_PIXEL_CHUNKS:
            parts += [struct.pack(">I4s", length, kind), content, struct.pack(">I", zlib.crc32(kind + content))]
    return b"".join(parts)


def _png_profile(data: bytes) -> bytes | None:
    """The ICC profile, if it is unpacked to at most `MAX_PROFILE_BYTES`."""
    for kind, content, _ in _png_chunks(data):
        if kind == b"iCCP":
            _, _, packed = content.partition(b"\0")
            unpacking = zlib.decompressobj()
            try:
                profile = unpacking.decompress(packed[1:], MAX_PROFILE_BYTES)
            except zlib.error:
                return None
            return profile if unpacking.eof else None
    return None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind, content and stated length; less content than stated where the file ends early."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        yield kind, data[place + 8 : place + 8 + length], length
        place += length + 12


def _tiff_by_opencv(data: bytes, name: str) -> np.ndarray:
    try:
        tags = ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        width, height = tags.get(TIFF_WIDTH, 0), tags.get(TIFF_HEIGHT, 0)
        check_size(width, height, name)  # OpenCV's own limit is a gigapixel
        size = width * height * tags.get(TIFF_SAMPLES, 1) * max(tags.get(TIFF_BITS, (8,))) // 8
        if size > MAX_DEEP_BYTES:
            raise PictureError(
                f"Expected at most {MAX_DEEP_BYTES:,} bytes of pixels, but {name} has {size:,}. Save it with 8 bits a channel."
            )
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except PictureError:
        raise
    except Exception as error:  # of two libraries, on damaged data
        raise PictureDamagedError(_damaged(name, error)) from error
    if decoded is None:
        raise PictureDamagedError(_damaged(name, "OpenCV cannot read it either"))
    if decoded.dtype != np.uint8:
        scaled: Any = np.empty(decoded.shape, np.uint8)
        to_8_bits(decoded.__getitem__, scaled, is_inverted=tags.get(TIFF_PHOTOMETRIC) == 0)
        decoded = scaled
    if decoded.ndim == 3:  # blue, green, red, alpha
        decoded = decoded[..., [2, 1, 0, 3][: decoded.shape[2]]]
    return image_to_rgb(PIL.Image.fromarray(np.ascontiguousarray(decoded)), name)  # OpenCV has turned it upright


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        turned = image.getexif().get(PIL.ExifTags.Base.Orientation, 1) != 1
        return PIL.ImageOps.exif_transpose(image) if turned else image
    except Exception:  # the pixels may be fine even if the EXIF block is damaged
        return image


def _over_white(image: PIL.Image.Image) -> PIL.Image.Image:
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = PIL.Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _damaged(name: str, error: Exception | str) -> str:
    return f"Expected a complete picture, but {name} is damaged ({error}). Save or upload it again."
