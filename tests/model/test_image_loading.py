"""Any picture becomes upright 8-bit RGB, and anything else a message that says what to do."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from model import image_loading
from model.image_loading import PictureError, load_rgb


PHOTO = Image.fromarray(astronaut()).resize((64, 48))
GREY = np.asarray(PHOTO.convert("L").convert("RGB"))


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
    ("jpeg", encode(PHOTO, "JPEG", quality=95), RGB, 30),
    ("webp", encode(PHOTO, "WEBP", lossless=True), RGB, 0),
    ("avif", encode(PHOTO, "AVIF", quality=95), RGB, 30),
    ("heic", encode(PHOTO, "HEIF", quality=95), RGB, 30),
    ("grey", encode(PHOTO.convert("L"), "PNG"), GREY, 0),
    ("grey and alpha", encode(half_clear().convert("LA"), "PNG"), white_right(GREY), 0),
    ("colour and alpha", encode(half_clear(), "PNG"), white_right(RGB), 0),
    ("palette", encode(PHOTO.quantize(256), "PNG"), RGB, 25),
    ("palette with transparency", encode(half_clear().quantize(256), "PNG"), white_right(RGB), 30),
    ("one bit", encode(PHOTO.convert("1"), "PNG"), np.asarray(PHOTO.convert("1").convert("RGB")), 0),
    ("16 bit png", encode(sixteen_bit(), "PNG"), GREY, 0),
    ("16 bit tiff", encode(sixteen_bit(), "TIFF"), GREY, 0),
    ("32 bit tiff", encode(Image.fromarray(np.asarray(sixteen_bit()).astype(np.int32)), "TIFF"), GREY, 0),
    ("float tiff", encode(Image.fromarray((GREY[..., 0] / 255).astype(np.float32)), "TIFF"), GREY, 1),
    ("cmyk jpeg", encode(PHOTO.convert("CMYK"), "JPEG", quality=95), RGB, 30),
    (
        "first of an animation",
        encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(180)], lossless=True),
        RGB,
        0,
    ),
    ("two pictures of one shot", encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO], quality=95), RGB, 30),
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
    assert np.array_equal(load_rgb(encode(turned, "PNG", exif=exif)), RGB)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow says it, and reads the pixels all the same
def test_damaged_exif_is_no_reason_to_refuse():
    data = encode(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff", quality=95)
    assert load_rgb(data).shape == (48, 64, 3)


def test_kinds_of_input(tmp_path: Path):
    path = tmp_path / "photo.png"
    PHOTO.save(path)
    for picture in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), PHOTO, RGB):
        assert np.array_equal(load_rgb(picture), RGB)
    assert np.array_equal(load_rgb(GREY[..., 0]), GREY)
    assert np.array_equal(load_rgb(GREY[..., :1]), GREY)
    assert np.array_equal(load_rgb(np.asarray(half_clear())), white_right(RGB))


def bomb() -> bytes:
    """A header of 20,000 x 20,000 pixels in front of nothing."""
    data = bytearray(encode(PHOTO, "BMP"))
    data[18:26] = (20_000).to_bytes(4, "little") * 2
    return bytes(data)


UNREADABLE = [
    ("empty", b"", "empty"),
    ("text", b"This is a letter, not a picture.", "none of these"),
    ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of these"),
    ("postscript", encode(PHOTO, "EPS"), "none of these"),
    ("truncated jpeg", encode(PHOTO, "JPEG")[:700], "damaged"),
    ("truncated png", encode(PHOTO, "PNG")[:700], "damaged"),
    ("truncated webp", encode(PHOTO, "WEBP")[:300], "damaged"),
    ("bomb", bomb(), "at most 50,000,000 pixels"),
    ("above the limit", encode(Image.new("1", (10_000, 5_001)), "PNG"), "10000 x 5001 = 50,010,000"),
    ("too tall to cut a face out", encode(Image.new("1", (200, 32_767)), "PNG"), "at most 32,766 pixels.* 200 x 32767"),
    ("too wide an array", np.zeros((2, 32_767, 3), np.uint8), "at most 32,766 pixels.* 32767 x 2"),
    ("floats", RGB / 255, "uint8 array"),
    ("video", np.zeros((2, 8, 8, 3), np.uint8), "uint8 array"),
    ("two channels", np.zeros((8, 8, 2), np.uint8), "uint8 array"),
    ("no pixels", np.zeros((0, 8, 3), np.uint8), "uint8 array"),
    ("a number", 5, "Expected a path"),
    ("nothing", None, "Expected a path"),
]


@pytest.mark.parametrize(("picture", "message"), [c[1:] for c in UNREADABLE], ids=[c[0] for c in UNREADABLE])
def test_what_is_no_picture(picture, message: str):
    with pytest.raises(PictureError, match=message):
        load_rgb(picture)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"none at 'no/such\.jpg'"):
        load_rgb("no/such.jpg")


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """An HTTP server with a picture, a redirect to it, and something endless."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/photo.png")
                self.end_headers()
            elif self.path == "/photo.png":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(encode(PHOTO, "PNG"))
            elif self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(bytes(100_000))
                except ConnectionError:
                    pass
            else:
                self.send_error(404)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["photo.png", "moved"])
def test_url(site: str, path: str):
    assert np.array_equal(load_rgb(f"{site}/{path}"), RGB)


@pytest.mark.parametrize(
    ("path", "message"),
    [("missing.png", "404"), ("endless", "at most 1,000,000 bytes")],
)
def test_url_that_does_not_answer_with_a_picture(site: str, path: str, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_loading, "MAX_DOWNLOAD_BYTES", 1_000_000)
    with pytest.raises(PictureError, match=message):
        load_rgb(f"{site}/{path}")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/photo.png", "http://"])
def test_url_of_nobody(url: str):
    with pytest.raises(PictureError, match="Check the URL"):
        load_rgb(url)
