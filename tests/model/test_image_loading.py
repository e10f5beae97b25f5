"""Any picture becomes upright 8-bit RGB, and anything else a message that says what to do."""

import base64
import struct
import zlib
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from model.image_loading import PictureError, load_rgb
from tests.support.colour_profiles import in_space, profile
from tests.support.grey_tiff import grey_tiff
from tests.support.odd_pictures import encoded


PHOTO = Image.fromarray(astronaut()).resize((64, 48))
GREY = np.asarray(PHOTO.convert("L").convert("RGB"))


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)


def half_clear() -> Image.Image:
    """The photo on the left, see-through black on the right."""
    image = PHOTO.convert("RGBA")
    image.paste((0, 0, 0, 0), (32, 0, 64, 48))
    return image


def white_right(expected: np.ndarray) -> np.ndarray:
    return np.concatenate([expected[:, :32], np.full_like(expected[:, 32:], 255)], axis=1)


RGB = np.asarray(PHOTO)
READABLE = [
    ("jpeg", encoded("JPEG", PHOTO, quality=95), RGB, 30),
    ("webp", encoded("WEBP", PHOTO, lossless=True), RGB, 0),
    ("avif", encoded("AVIF", PHOTO, quality=95), RGB, 30),
    ("heic", encoded("HEIF", PHOTO, quality=95), RGB, 30),
    ("heif of the brand mif1", encoded("HEIF", PHOTO, quality=95).replace(b"ftypheic", b"ftypmif1", 1), RGB, 30),
    ("grey", encoded("PNG", PHOTO.convert("L")), GREY, 0),
    ("grey and alpha", encoded("PNG", half_clear().convert("LA")), white_right(GREY), 0),
    ("colour and alpha", encoded("PNG", half_clear()), white_right(RGB), 0),
    ("palette", encoded("PNG", PHOTO.quantize(256)), RGB, 25),
    ("palette with transparency", encoded("PNG", half_clear().quantize(256)), white_right(RGB), 30),
    ("one bit", encoded("PNG", PHOTO.convert("1")), np.asarray(PHOTO.convert("1").convert("RGB")), 0),
    ("16 bit png", encoded("PNG", sixteen_bit()), GREY, 0),
    ("16 bit tiff", encoded("TIFF", sixteen_bit()), GREY, 0),
    ("32 bit tiff", encoded("TIFF", Image.fromarray(np.asarray(sixteen_bit()).astype(np.int32))), GREY, 0),
    ("float tiff", encoded("TIFF", Image.fromarray((GREY[..., 0] / 255).astype(np.float32))), GREY, 1),
    ("cmyk jpeg", encoded("JPEG", PHOTO.convert("CMYK"), quality=95), RGB, 30),
    (
        "first of an animation",
        encoded("WEBP", PHOTO, save_all=True, append_images=[PHOTO.rotate(180)], lossless=True),
        RGB,
        0,
    ),
    ("two pictures of one shot", encoded("MPO", PHOTO, save_all=True, append_images=[PHOTO], quality=95), RGB, 30),
]


@pytest.mark.parametrize(("data", "expected", "tolerance"), [c[1:] for c in READABLE], ids=[c[0] for c in READABLE])
def test_formats_and_modes(data: bytes, expected: np.ndarray, tolerance: int):
    image_rgb = load_rgb(data)
    assert image_rgb.dtype == np.uint8
    assert image_rgb.shape == (48, 64, 3)
    # The largest difference of smooth areas, so that the edges a lossy format rings at do not count
    assert np.quantile(np.abs(image_rgb.astype(int) - expected), 0.95) <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what a camera held that way does to the picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = PHOTO if orientation == 1 else PHOTO.transpose(Image.Transpose(undo[orientation]))
    assert np.array_equal(load_rgb(encoded("PNG", turned, exif=exif)), RGB)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow says it, and reads the pixels all the same
def test_damaged_exif_is_no_reason_to_refuse():
    data = encoded("JPEG", PHOTO, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff", quality=95)
    assert load_rgb(data).shape == (48, 64, 3)


def test_kinds_of_input(tmp_path: Path):
    path = tmp_path / "photo.png"
    PHOTO.save(path)
    for picture in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), PHOTO, RGB):
        assert np.array_equal(load_rgb(picture), RGB)
    assert np.array_equal(load_rgb(GREY[..., 0]), GREY)
    assert np.array_equal(load_rgb(GREY[..., :1]), GREY)
    assert np.array_equal(load_rgb(np.asarray(half_clear())), white_right(RGB))


PNG = encoded("PNG", PHOTO)
BASE64 = base64.b64encode(PNG).decode()


TEXTS = {
    "base64": BASE64,
    "base64 in lines": base64.encodebytes(PNG).decode(),
    "data: URL": f"data:image/png;base64,{BASE64}",
    "data: URL without a type": f"data:;base64,{BASE64}",
    "data: URL, percent-encoded": f"data:image/png,{quote_from_bytes(PNG)}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_that_holds_a_picture(text: str):
    assert np.array_equal(load_rgb(text), RGB)


def with_chunk(kind: bytes, content: bytes, data: bytes = PNG, *, wrong_checksum=False, before=b"IDAT") -> bytes:
    """A PNG with one more chunk."""
    checksum = zlib.crc32(kind + content) ^ wrong_checksum
    place = data.index(before) - 4
    return data[:place] + struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", checksum) + data[place:]


LARGE = zlib.compress(bytes(3_000_000))
NOT_ABOUT_PIXELS = {
    "large colour profile": with_chunk(b"iCCP", b"large\0\0" + LARGE),
    "large packed text": with_chunk(b"zTXt", b"history\0\0" + LARGE),
    "large editing history": with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
    "large text after the pixels": with_chunk(b"zTXt", b"history\0\0" + LARGE, before=b"IEND"),
    **{
        f"wrong checksum of {kind}": with_chunk(kind.encode(), content, wrong_checksum=True)
        for kind, content in {
            "tEXt": b"a\0b",
            "gAMA": bytes(4),
            "tIME": bytes(7),
            "iCCP": b"a\0\0b",
            "prVt": b"",
        }.items()
    },
    "short chunk": with_chunk(b"pHYs", b"\0"),
    "text in no known packing": with_chunk(b"zTXt", b"history\0\7text"),
    "wrong checksum of the header": PNG[:29] + bytes(4) + PNG[33:],
    "without the end": PNG[:-12],
}


@pytest.mark.parametrize("data", NOT_ABOUT_PIXELS.values(), ids=NOT_ABOUT_PIXELS)
def test_what_is_wrong_beside_the_pixels(data: bytes):
    assert np.array_equal(load_rgb(data), RGB)


def test_orientation_survives_a_wrong_checksum():
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded("PNG", PHOTO.rotate(180), exif=exif)
    assert np.array_equal(load_rgb(with_chunk(b"tEXt", b"a\0b", data, wrong_checksum=True)), RGB)


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_without_its_last_bytes(progressive: bool, quality: int):
    data = encoded("JPEG", PHOTO, quality=quality, progressive=progressive)
    assert np.array_equal(load_rgb(data[:-1]), load_rgb(data))
    assert np.array_equal(load_rgb(data[:-2]), load_rgb(data))
    for missing in (12, 100, len(data) // 2):
        with pytest.raises(PictureError, match="damaged"):
            load_rgb(data[:-missing])


GREY_16 = np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257  # 0 to 65,535
DEEP = {
    "12 bits in a 16-bit PNG": encoded("PNG", Image.fromarray(GREY_16 >> 4)),
    "12 bits in 16": grey_tiff(GREY_16 >> 4),
    "14 bits in 16, Motorola": grey_tiff(GREY_16 >> 2, ">"),
    "8 bits in 16": grey_tiff(GREY_16 >> 8),
    "13 bits that the file states": grey_tiff(GREY_16 >> 3, max_sample_value=2**13 - 1),
    "white is zero": grey_tiff(65_535 - GREY_16, photometric=0),
    "white is zero, Motorola": grey_tiff(65_535 - GREY_16, ">", photometric=0),
    "white is zero, 12 bits": grey_tiff((65_535 - GREY_16) >> 4, photometric=0),
    "unsigned 32 bits": grey_tiff(GREY_16.astype(np.uint32) * 65_537),
    "white is zero, floats, Motorola": grey_tiff((1 - GREY_16 / 65_535).astype(np.float32), ">", photometric=0),
    "12 bits in 32": grey_tiff(GREY_16.astype(np.int32) >> 4),
    "signed 16 bits": grey_tiff((GREY_16.astype(np.int32) - 32_768).astype(np.int16)),
    "signed 32 bits": grey_tiff((GREY_16.astype(np.int64) * 65_537 - 2**31).astype(np.int32)),
    "floats to 1": grey_tiff((GREY_16 / 65_535).astype(np.float32)),
    "floats a little above 1": grey_tiff((GREY_16 / 65_535 * 1.01).astype(np.float32)),
    "floats from -1": grey_tiff((GREY_16 / 32_767.5 - 1).astype(np.float32)),
    "floats to 255": grey_tiff((GREY_16 / 257).astype(np.float32)),
    "floats to 65,535": grey_tiff(GREY_16.astype(np.float32)),
    "double floats": grey_tiff(GREY_16 / 65_535),
    "a PGM to 1,000": b"P5 64 48 1000\n" + (GREY_16 / 65.535).round().astype(">u2").tobytes(),
}


@pytest.mark.parametrize("data", DEEP.values(), ids=DEEP)
def test_grey_of_more_than_8_bits(data: bytes):
    difference = np.abs(load_rgb(data).astype(int) - GREY)
    assert difference.max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_both_readers_of_tiff_turn_it_upright(orientation: int):
    values = GREY_16 / 65_535  # doubles, which Pillow does not read
    by_pillow, by_opencv = (
        load_rgb(grey_tiff(values.astype(kind), orientation=orientation)) for kind in (np.float32, np.float64)
    )
    assert np.array_equal(by_opencv, by_pillow)


def test_not_every_float_is_a_number():
    values = (GREY_16 / 65_535).astype(np.float32)
    values[:2] = [[np.nan], [np.inf]]
    assert np.abs(load_rgb(grey_tiff(values))[2:].astype(int) - GREY[2:]).max() <= 1


def test_large_colour_profile_is_applied():
    data = encoded("PNG", in_space(PHOTO, "ProPhoto"))
    padded = zlib.compress(profile("ProPhoto") + bytes(2_000_000))
    assert np.abs(load_rgb(with_chunk(b"iCCP", b"large\0\0" + padded, data)).astype(int) - RGB).max() <= 4


def bomb() -> bytes:
    """A header of 20,000 x 20,000 pixels in front of nothing."""
    data = bytearray(encoded("BMP", PHOTO))
    data[18:26] = (20_000).to_bytes(4, "little") * 2
    return bytes(data)


WIDE = encoded("PNG", Image.new("1", (10_000, 5_001)))
UNREADABLE = [
    ("empty", b"", "empty"),
    ("text", b"This is a letter, not a picture.", "none of these"),
    ("film", b"\0\0\0\x18ftypisom" + bytes(100), "is a video or sound"),
    ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of these"),
    ("postscript", encoded("EPS", PHOTO), "none of these"),
    ("truncated jpeg", encoded("JPEG", PHOTO)[:700], "damaged"),
    ("truncated png", encoded("PNG", PHOTO)[:700], "damaged"),
    ("truncated webp", encoded("WEBP", PHOTO)[:300], "damaged"),
    ("half of a png with a wrong checksum", with_chunk(b"tEXt", b"a\0b", wrong_checksum=True)[:2000], "damaged"),
    ("png with damaged pixels", PNG[:1500] + bytes(200) + PNG[1700:], "damaged"),
    ("large png with a wrong checksum", with_chunk(b"tEXt", b"a\0b", WIDE, wrong_checksum=True), "50,010,000"),
    ("tiff that no decoder knows", grey_tiff(GREY_16.astype(np.uint32), ">"), "of a kind that cannot be read"),
    ("header of a tiff", grey_tiff(GREY_16)[:6], "damaged"),
    ("large tiff that Pillow cannot read", grey_tiff(np.zeros((1, 40_000), np.uint32), ">"), "at most 32,766 pixels"),
    ("bomb", bomb(), "at most 50,000,000 pixels"),
    ("above the limit", WIDE, "10000 x 5001 = 50,010,000"),
    (
        "too tall to cut a face out",
        encoded("PNG", Image.new("1", (200, 32_767))),
        "at most 32,766 pixels.* 200 x 32767",
    ),
    ("too wide an array", np.zeros((2, 32_767, 3), np.uint8), "at most 32,766 pixels.* 32767 x 2"),
    ("floats", RGB / 255, "uint8 array"),
    ("video", np.zeros((2, 8, 8, 3), np.uint8), "uint8 array"),
    ("two channels", np.zeros((8, 8, 2), np.uint8), "uint8 array"),
    ("no pixels", np.zeros((0, 8, 3), np.uint8), "uint8 array"),
    ("a number", 5, "Expected a path"),
    ("nothing", None, "Expected a path"),
    ("data: URL of torn base64", "data:image/png;base64,iVBOR!", "base64 is damaged"),
    ("data: URL of nothing", "data:image/png;base64,", "empty"),
    ("data: URL without data", "data:image/png", "comma is missing"),
    ("data: URL of a letter", "data:text/plain,hello", "none of these"),
    ("base64 of a letter", base64.b64encode(b"a letter, no picture" * 20).decode(), "neither base64 of a picture"),
    ("a long text", "x" * 100_000, "100,000 characters"),
    ("null byte", "a\0b.jpg", "found none"),
]


@pytest.mark.parametrize(("picture", "message"), [c[1:] for c in UNREADABLE], ids=[c[0] for c in UNREADABLE])
def test_what_is_no_picture(picture, message: str):
    with pytest.raises(PictureError, match=message) as raised:
        load_rgb(picture)
    assert len(str(raised.value)) < 400


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"none at 'no/such\.jpg'"):
        load_rgb("no/such.jpg")
