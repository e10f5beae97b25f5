"""No picture file holds a decoder for long or becomes gigabytes: each is refused in time, or read within the same bounds."""

import re
import sys
import time
from pathlib import Path

import pytest

from model.image_loading import PictureError, load_rgb
from scripts.benchmarks.measuring import memory_mib
from tests.support.hostile_pictures import HOSTILE


MAX_SECONDS = 5.0  # of processor time
MAX_MEBIBYTES = 450  # the largest pictures take 340: 4 bytes a pixel decoded, 3 as RGB
COSTLY = "as cameras and programs write it"

OUTCOMES = {  # (height, width, 3), or the message
    "JPEG of as many scans as are read": (7000, 7000, 3),
    "JPEG of 100 scans": (3000, 3000, 3),
    "JPEG of 2,500 scans": "has 21 scans of 49,000,000 pixels, or more",
    "JPEG of 20 MB of scans": "has 21 scans of 49,000,000 pixels, or more",
    "JPEG of a million segments": "is made of far too many pieces",
    "JPEG of Photoshop's blocks": (48, 64, 3),
    "EXIF of a JPEG": "has tags of 2,800,000,000 bytes in 1,424,014",
    "EXIF of a PNG": "has tags of 2,800,000,000 bytes in 1,424,014",
    "EXIF of a PNG, nested": "has tags of 2,800,000,000 bytes in 1,424,044",
    "EXIF of a WebP": "has tags of 2,800,000,000 bytes in 1,424,014",
    "EXIF of an AVIF": (48, 64, 3),  # whose orientation counts, and not EXIF's
    "EXIF of a HEIF": "has tags of 2,800,000,000 bytes in 1,424,014",
    "PNG of a million chunks": "is made of far too many pieces",
    "TIFF whose tags share 1.4 MB": "has tags of 2,800,000,000 bytes in 1,424,014",
    "TIFF whose tags share 10 MB": "has tags of 3,000,000,000 bytes in 10,003,614",
    "TIFF of a million strips": "has 2,000,000 numbers in its tags; 400,000 are read",
    "GIF with a comment of 20 MB": "bytes of comments; 1,000,000 are read",
    "GIF of 70,000 comments": "bytes of comments; 1,000,000 are read",
    "PGM with a comment of 20 MB": "is made of far too many pieces",
    "PGM in words, with ten million comments": "has 10,000,000 comments; 1,000 are read",
    "PGM in words": "has 10,000,000 values in a coding that is slow to read; 2,000,000 are read",
    "PGM of 20 MB to 254": "has 20,000,000 values in a coding that is slow to read; 2,000,000 are read",
    "BMP of ten million ends of line": "is made of far too many pieces",
    "16-bit PNG of 49 megapixels": (7000, 7000, 3),
    "32-bit TIFF of 49 megapixels": (7000, 7000, 3),
    "float TIFF of 49 megapixels": (7000, 7000, 3),
}


def test_the_table_is_complete():
    assert OUTCOMES.keys() == HOSTILE.keys()


@pytest.mark.parametrize("name", HOSTILE)
def test_time_and_memory_are_bounded(name: str):
    data, expected = HOSTILE[name](), OUTCOMES[name]
    before, begin = forget_the_peak(), time.process_time()
    image_rgb = None
    if isinstance(expected, str):
        with pytest.raises(PictureError, match=f"{COSTLY}.*{re.escape(expected)}"):
            load_rgb(data)
    else:
        image_rgb = load_rgb(data)
    seconds, mebibytes = time.process_time() - begin, peak_mebibytes() - before
    if image_rgb is not None:  # compared only now: that takes a byte for every number, which is not the loading's
        assert image_rgb.shape == expected
        assert (image_rgb == image_rgb[0, 0]).all()
    print(f"{name}: {seconds:.2f} s, {mebibytes:.0f} MiB")
    assert seconds < MAX_SECONDS
    assert mebibytes < MAX_MEBIBYTES


def forget_the_peak() -> float:
    """MiB of this process now."""
    if sys.platform != "linux":
        return 0.0
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mib("VmRSS", "self")


def peak_mebibytes() -> float:
    return memory_mib("VmHWM", "self") if sys.platform == "linux" else 0.0
