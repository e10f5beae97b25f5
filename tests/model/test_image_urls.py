"""Pictures that are named by their address on the web."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from model import image_loading
from model.image_loading import PictureError, load_rgb
from tests.support.odd_pictures import encoded


PHOTO = Image.fromarray(astronaut()).resize((64, 48))
PNG = encoded("PNG", PHOTO)


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
                self.wfile.write(encoded("PNG", PHOTO))
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
    assert np.array_equal(load_rgb(f"{site}/{path}"), np.asarray(PHOTO))


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
