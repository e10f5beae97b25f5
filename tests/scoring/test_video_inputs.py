"""Videos as sources of pictures: which frames are read, how they are turned and stretched, and what damage is noticed."""

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from model.image_loading import PictureError, load_rgb
from scoring.inputs import InputSummary, all_entries, open_sources
from scoring.scorer import read_entries


def write_video(path: Path, frames: int, frame_rate: float, codec: str = "MJPG") -> Path:
    """Each frame is grey, a little brighter than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), frame_rate, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 4 * index, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("frames_per_second", "expected"), [(1, [0, 10, 20]), (2.5, [0, 4, 8, 12, 16, 20, 24, 28]), (100, list(range(30)))]
)
def test_video_frames_by_the_clock(tmp_path, frames_per_second, expected):
    video = write_video(tmp_path / "film.avi", frames=30, frame_rate=10)
    sources = open_sources([str(video)], frames_per_second=frames_per_second)
    pictures = list(read_entries(all_entries(sources)))
    assert [picture.seconds for picture in pictures] == pytest.approx([frame / 10 for frame in expected])
    assert [picture.content.mean() / 4 for picture in pictures] == pytest.approx(expected, abs=0.5)
    assert InputSummary.of(sources).pictures == len(expected)


def test_damaged_videos_say_so(tmp_path):
    whole = write_video(tmp_path / "film.avi", frames=50, frame_rate=10).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "letter.mp4").write_text("no video")
    names = [str(tmp_path / "cut.avi"), str(tmp_path / "letter.mp4")]
    *frames, cut, letter = read_entries(all_entries(open_sources(names)))
    assert 1 <= len(frames) < 5
    assert re.fullmatch(r"damaged: only \d+ of 50 frames can be read", cut.problem)
    assert letter.problem.startswith("not a video")


def test_a_video_that_was_trimmed_without_reencoding_is_not_damaged(tmp_path):
    """Its header says how long it is shown, and its edit list from where; what lies before is still in the file."""
    video = write_video(tmp_path / "film.mp4", frames=60, frame_rate=10, codec="mp4v")
    content = bytearray(video.read_bytes())

    def number_at(kind: bytes, place: int) -> slice:
        """The four bytes that far behind the name of a box."""
        start = content.index(kind) + len(kind) + place
        return slice(start, start + 4)

    for shown in (number_at(b"mvhd", 16), number_at(b"elst", 8)):
        content[shown] = (int.from_bytes(content[shown], "big") // 2).to_bytes(4, "big")
    units_per_second = int.from_bytes(content[number_at(b"mdhd", 12)], "big")
    content[number_at(b"elst", 12)] = (3 * units_per_second).to_bytes(4, "big")
    video.write_bytes(content)
    sources = open_sources([str(video)])
    pictures = list(read_entries(all_entries(sources)))
    assert [picture.problem for picture in pictures] == [None] * 3
    assert [picture.content.mean() / 4 for picture in pictures] == pytest.approx([30, 40, 50], abs=1)
    assert InputSummary.of(sources).pictures == 3


@pytest.mark.parametrize(("clockwise", "bright_corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_video_from_a_phone_held_upright_is_upright(tmp_path, clockwise, bright_corner):
    """The track header holds the rotation; the frames themselves are bright at the top left."""
    video = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:16, :16] = 255
    writer.write(frame)
    writer.release()
    content = bytearray(video.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    cos, sin = round(np.cos(np.deg2rad(clockwise))), round(np.sin(np.deg2rad(clockwise)))
    content[matrix : matrix + 20] = struct.pack(">5i", cos << 16, sin << 16, 0, -sin << 16, cos << 16)
    video.write_bytes(content)
    [picture] = read_entries(all_entries(open_sources([str(video)])))
    assert picture.content.shape == ((48, 64, 3) if clockwise == 180 else (64, 48, 3))
    corners = {corner: picture.content[corner].mean() for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1))}
    assert max(corners, key=corners.get) == bright_corner


def test_an_mp4_with_a_hole_is_damaged(tmp_path):
    video = write_video(tmp_path / "film.mp4", frames=60, frame_rate=10, codec="mp4v")
    content = video.read_bytes()
    hole = len(content) // 2
    video.write_bytes(content[: hole // 4] + bytes(hole) + content[hole // 4 + hole :])
    *_, last = read_entries(all_entries(open_sources([str(video)])))
    assert re.fullmatch(r"damaged: only \d+ of 60 frames can be read", last.problem)


def write_film(path: Path, container: str, codec: str, size_wh: tuple[int, int], pixel_aspect: Fraction) -> Path:
    """Two seconds of grey."""
    with av.open(str(path), "w", format=container) as film:
        stream = film.add_stream(codec, rate=25)
        stream.width, stream.height = size_wh
        stream.pix_fmt, stream.sample_aspect_ratio = "yuv420p", pixel_aspect
        pixels = np.full((size_wh[1], size_wh[0], 3), 100, np.uint8)
        for _ in range(50):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode(None))
    return path


def test_a_video_of_huge_frames_is_refused_by_its_header(tmp_path):
    path, (width, height) = tmp_path / "film.avi", (8_192, 6_400)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        film.mux(stream.encode(av.VideoFrame(width, height, "yuvj420p")))
        film.mux(stream.encode(None))
    [entry] = read_entries(all_entries(open_sources([str(path)])))
    assert re.search("the video .*8192 x 6400", entry.problem)


FILMS = {
    ".3gp": ("3gp", "h263"),
    ".m2ts": ("mpegts", "mpeg2video"),
    ".wmv": ("asf", "wmv2"),
    ".flv": ("flv", "flv"),
    ".ts": ("mpegts", "mpeg2video"),
    ".mkv": ("matroska", "mpeg4"),
    "": ("mp4", "mpeg4"),
    ".clip": ("mpegts", "mpeg4"),
}


@pytest.mark.parametrize("suffix", FILMS)
def test_kinds_of_videos(tmp_path, suffix):
    path = write_film(tmp_path / f"film{suffix}", *FILMS[suffix], (176, 144), Fraction(1))
    frames = [picture.content for picture in read_entries(all_entries(open_sources([str(path)])))]
    assert [frame.shape for frame in frames] == [(144, 176, 3)] * 2
    with pytest.raises(PictureError, match=r"Expected a picture, but film.* is a video or sound\."):
        load_rgb(path)


@pytest.mark.parametrize(
    ("suffix", "codec", "stored_wh", "pixel_aspect", "shown_hw"),
    [
        (".vob", "mpeg2video", (720, 576), Fraction(64, 45), (576, 1024)),  # a DVD, wide
        (".vob", "mpeg2video", (720, 576), Fraction(16, 15), (576, 768)),
        (".dv", "dvvideo", (720, 576), Fraction(16, 15), (576, 768)),
        (".ts", "mpeg2video", (720, 540), Fraction(4, 3), (540, 960)),  # HDV has the same ratio
        (".mp4", "mpeg4", (480, 480), Fraction(1, 2), (960, 480)),
        (".mp4", "mpeg4", (480, 480), Fraction(60, 1), (480, 480)),  # no camera writes that
    ],
)
def test_pixels_that_are_not_square_are_stretched(tmp_path, suffix, codec, stored_wh, pixel_aspect, shown_hw):
    container = {".ts": "mpegts"}.get(suffix, suffix[1:])
    path = write_film(tmp_path / f"film{suffix}", container, codec, stored_wh, pixel_aspect)
    frames = [picture.content for picture in read_entries(all_entries(open_sources([str(path)])))]
    assert [frame.shape for frame in frames] == [(*shown_hw, 3)] * 2
