"""Which formats of pictures are read, under which names they go, and how a file is recognised by its first bytes."""

import re
import struct

import PIL.Image


# What is listed and what is decoded. The order is that in which formats are tried. Formats that Pillow also reads are left
# out where it uses another program for them (Ghostscript for EPS), or readers that are not fuzzed.
FORMAT_SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "DIB": (".dib",),  # a BMP without its file header
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "HEIF": (".heic", ".heif", ".hif", ".heics", ".heifs"),  # the format of iPhones
}
# All of them, HEIF's even without pillow-heif: then such a file is an error and is not skipped.
SUFFIXES = tuple(dict.fromkeys(suffix for suffixes in FORMAT_SUFFIXES.values() for suffix in suffixes))
FORMATS = tuple(FORMAT_SUFFIXES)
try:
    from pillow_heif import register_heif_opener
except ImportError:  # it is optional
    FORMATS = tuple(name for name in FORMATS if name != "HEIF")
else:
    register_heif_opener()

START_BYTES = 512  # enough for the two functions below

_HEADER_SIZES_OF_BMP = (12, 16, 40, 52, 56, 64, 108, 124)
_PPM = re.compile(rb"P[1-6]\s(\s|#[^\n]*\n)*\d+\s+\d+\s|P[Ff]\s+\d+\s+\d+\s")
_VIDEO = re.compile(
    rb"....ftyp"  # MP4, MOV, 3GP; pictures of this container are recognised before
    rb"|RIFF....AVI "
    rb"|\x1a\x45\xdf\xa3"  # Matroska and WebM
    rb"|FLV\x01"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # WMV
    rb"|\x00\x00\x01[\xb3\xba]"  # MPEG-1 and 2
    rb"|\x47.{187}\x47|.{4}\x47.{191}\x47"  # MPEG transport streams: .ts, .m2ts
    rb"|\x1f\x07\x00"  # DV
    rb"|OggS",
    re.DOTALL,
)


def recognised_format(data: bytes) -> str | None:
    """The one of `FORMATS` that the first bytes belong to."""
    PIL.Image.init()
    for kind in FORMATS:
        accepts = PIL.Image.OPEN[kind][1] if kind in PIL.Image.OPEN else None
        if accepts and accepts(data[:16].ljust(16, b"\0")) is True:
            return kind
    return None


def starts_as_picture(start: bytes) -> bool:
    """Whether a file whose name says nothing is a picture, by its first `START_BYTES` bytes.

    Stricter than `recognised_format`, which takes every text that begins with BM for a BMP.
    """
    kind = recognised_format(start)
    if kind == "BMP":
        return len(start) >= 18 and struct.unpack_from("<I", start, 14)[0] in _HEADER_SIZES_OF_BMP
    if kind == "PPM":
        return bool(_PPM.match(start))
    return kind not in (None, "DIB")  # four bytes, most of them zero, are too little


def starts_as_video(start: bytes) -> bool:
    """Whether a file is a video or sound of a common container, by its first `START_BYTES` bytes."""
    return recognised_format(start) is None and bool(_VIDEO.match(start))
