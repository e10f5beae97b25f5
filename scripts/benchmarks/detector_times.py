"""How long finding the faces of a picture takes, on one core, by kind of picture: milliseconds of processor time.

    python -m scripts.benchmarks.detector_times                      # on onnxruntime, and on OpenCV where that is missing
    python -m scripts.benchmarks.detector_times --before ../earlier  # and as another checkout of this repository does it

All take turns on each picture. The pictures are one public-domain portrait, in sizes and turns, and photographs that
packages bring along.
"""

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from skimage import data
from sklearn.datasets import load_sample_image

from model.face_detection import YUNET_FILE, YuNetDetector
from scripts.benchmarks.turned_faces import PORTRAIT, on_canvas, scaled, turned_on_grey


WEIGHTS = Path(__file__).resolve().parents[2] / "model" / YUNET_FILE
HEAD = PORTRAIT[20:220, 130:330]


def pictures() -> dict[str, np.ndarray]:
    """Kind -> (H, W, 3) uint8."""
    grain = np.random.default_rng(0).integers(90, 160, (180, 320, 3), dtype=np.uint8)
    temple = load_sample_image("china.jpg")
    photos = {width: cv2.resize(temple, (width, width * 9 // 16)) for width in (1280, 1920)}
    photos[4000] = cv2.resize(temple, (4000, 3000))
    near = {width: photo.copy() for width, photo in photos.items()}
    for width, side in ((1280, 480), (1920, 800), (4000, 2000)):
        near[width][50 : 50 + side, 400 : 400 + side] = cv2.resize(PORTRAIT, (side, side))
    grainy = cv2.resize(grain, (1280, 720), interpolation=cv2.INTER_CUBIC)
    grainy[100:580, 400:880] = cv2.resize(PORTRAIT, (480, 480))
    return {
        "512 x 512, a portrait": PORTRAIT,
        "1280 x 720, a near face on grey": on_canvas(cv2.resize(PORTRAIT, (480, 480)), 1280, 720, 400, 100),
        "1280 x 720, a near face in a photograph": near[1280],
        "1280 x 720, a near face in grain": grainy,
        "1920 x 1080, a near face in a photograph": near[1920],
        "4000 x 3000, a near face in a photograph": near[4000],
        "1280 x 720, a photograph without a face": photos[1280],
        "600 x 400, a photograph without a face": data.coffee(),
        "550 x 440, 20 faces": np.tile(cv2.resize(HEAD, (110, 110), interpolation=cv2.INTER_AREA), (4, 5, 1)),
        "4096 x 4096, a face that fills it": scaled(8),
        **{
            f"640 x 480, a face turned by {degrees}": turned_on_grey(HEAD, degrees) for degrees in (0, 45, 90, 135, 180)
        },
    }


def load_earlier(checkout: Path, folder: Path) -> YuNetDetector:
    """The detector of another checkout, whose `model` is imported by another name."""
    (folder / "earlier_model").symlink_to((checkout / "model").resolve(), target_is_directory=True)
    sys.path.insert(0, str(folder))
    module = importlib.import_module("earlier_model.face_detection")
    detector: YuNetDetector = module.YuNetDetector(checkout / "model" / YUNET_FILE)
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detectors = {"onnxruntime": YuNetDetector(WEIGHTS), "OpenCV": YuNetDetector(WEIGHTS, "opencv")}
    with tempfile.TemporaryDirectory() as folder:
        if args.before:
            detectors["before"] = load_earlier(args.before, Path(folder))
        print(f"| picture | faces | {' | '.join(detectors)} |\n|---|---|{'---|' * len(detectors)}", flush=True)
        for kind, picture in pictures().items():
            counts = {len(detector.detect(picture)) for detector in detectors.values()}
            seconds: dict[str, list[float]] = {name: [] for name in detectors}
            for _ in range(args.rounds):
                for name, detector in detectors.items():
                    start = time.thread_time()
                    detector.detect(picture)
                    seconds[name].append(time.thread_time() - start)
            medians = " | ".join(f"{1000 * np.median(times):.1f}" for times in seconds.values())
            print(f"| {kind} | {' or '.join(map(str, sorted(counts)))} | {medians} |", flush=True)


if __name__ == "__main__":
    main()
