"""Time from picture to answer, by stage, beside a common alternative: one ViT-B for age and one for gender. And of a fresh
process: from its start to its first answer, and in a browser from choosing a picture to its boxes and what is said of each face.

    python -m scripts.benchmarks.demo                    # the model in model/
    python -m scripts.benchmarks.demo --model outputs/run --repeats 50
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification

from demo.handlers import Handlers
from demo.serving import find_model
from demo.settings import DEFAULT_MODEL, ModelChoice, default_name
from model.face_alignment import align
from model.face_detection import YUNET_FILE, YuNetDetector
from model.image_loading import load_rgb
from scripts.benchmarks.visiting import (
    DemoProcess,
    NoBrowser,
    launch_chromium,
    open_file_chooser,
    picture_with_faces,
    running_demo,
)
from scripts.command import errors_explained


if TYPE_CHECKING:
    from playwright.sync_api import Browser, FileChooser

FACES = (1, 20)
# Playwright's `wait_for` looks after 0, 20, 70, 170, 270, 770 and 1,270 ms: an answer at 300 ms would count as one at 760.
LOOK_MS = 10
SHOWN = """([faces, answered]) => {
  const said = document.querySelector(answered)
  return said?.checkVisibility({visibilityProperty: true}) && said.offsetWidth > 0 && said.offsetHeight > 0
    && document.querySelector('.annotated img')?.complete
    && document.querySelectorAll('.annotated .layer rect.box').length === faces
}"""


def milliseconds(
    action: Callable[[], object], repeats: int, prepare: Callable[[], object] = lambda: None
) -> tuple[float, float]:
    """50th and 95th percentile, after one run to warm up. `prepare` comes before each run and is not timed."""
    times = []
    for _ in range(repeats + 1):
        prepare()
        start = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.percentile(times[1:], 50)), float(np.percentile(times[1:], 95))


def measure(
    handlers: Handlers, detector: YuNetDetector, path: Path, faces: int, repeats: int
) -> dict[str, tuple[float, float]]:
    pipe = handlers.served(None).pipeline
    config = pipe.model.config
    image_rgb = load_rgb(path)
    found = detector.detect(image_rgb)
    if len(found) != faces:
        raise RuntimeError(f"expected to measure {faces} faces, but {len(found)} were found")
    prepared, picture = pipe.preprocess(image_rgb), path.read_bytes()
    return {
        "decode": milliseconds(lambda: load_rgb(path), repeats),
        "detect": milliseconds(lambda: detector.detect(image_rgb), repeats),
        "align": milliseconds(
            lambda: [align(image_rgb, face, config.landmarks_xy, config.image_size) for face in found], repeats
        ),
        "model": milliseconds(lambda: pipe.forward(prepared), repeats),
        "picture to page": milliseconds(lambda: json.dumps(handlers.show(picture)), repeats),
    }


@torch.inference_mode()
def measure_two_vit_b(faces: int, repeats: int) -> tuple[float, float]:
    """Forward passes only, on ready crops; random weights take the same time as trained ones."""
    configs = [ViTConfig(), ViTConfig()]
    for config, labels in zip(configs, (9, 2), strict=True):
        config.num_labels = labels
    classifiers = [ViTForImageClassification(config).eval() for config in configs]
    pixel_values = torch.rand(faces, 3, 224, 224)
    return milliseconds(lambda: [classifier(pixel_values).logits for classifier in classifiers], repeats)


def first_answer(demo: DemoProcess, picture: bytes) -> None:
    """Ask as a visitor would who tries again until somebody is there."""
    api = f"{demo.url}/gradio_api"
    while True:
        demo.check_it_runs()
        try:
            upload = httpx.post(f"{api}/upload", files={"files": ("picture.jpg", picture)}, timeout=60)
            break
        except httpx.ConnectError:
            time.sleep(0.05)
    data = [{"path": upload.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}]
    event = httpx.post(f"{api}/call/predict", json={"data": [*data, True, ""]}).raise_for_status().json()["event_id"]
    answer = httpx.get(f"{api}/call/predict/{event}", timeout=60).text
    if "event: complete" not in answer:
        raise RuntimeError(f"the demo did not answer: {answer}")


class Page:
    """The page, and what a visitor does with it."""

    def __init__(self, browser: "Browser", url: str):
        self.page = browser.new_page()
        # The same picture is shown again and again: without this a browser would fetch its boxed copy only once.
        self.page.context.new_cdp_session(self.page).send("Network.setCacheDisabled", {"cacheDisabled": True})
        self.page.goto(url)
        self.page.get_by_role("tab", name="About").wait_for()

    def open_chooser(self) -> "FileChooser":
        """After what is shown is marked as an earlier answer."""
        self.page.evaluate("document.querySelector('.answer')?.classList.add('earlier')")
        is_first = self.page.get_by_role("button", name="Choose photos").is_visible()
        return open_file_chooser(self.page, "Choose photos" if is_first else "New picture")

    def wait_for_answer(self, faces: int) -> None:
        answered = f".answer:not(.earlier) {'.hero-age' if faces == 1 else f'.face:nth-of-type({faces})'}"
        self.page.wait_for_function(SHOWN, arg=[faces, answered], polling=LOOK_MS)

    def milliseconds(self, faces: int, repeats: int) -> list[float]:
        """From choosing a picture in the file chooser until its boxes and answers are shown; after one to warm up."""
        picture, times = picture_with_faces(faces), []
        for _ in range(repeats + 1):
            chooser, start = self.open_chooser(), time.perf_counter()
            chooser.set_files({"name": "picture.jpg", "mimeType": "image/jpeg", "buffer": picture})
            self.wait_for_answer(faces)
            times.append(1000 * (time.perf_counter() - start))
        return times[1:]


def measure_clicks(url: str, repeats: int) -> dict[int, list[float]]:
    """Faces -> milliseconds of each click on the page at this address."""
    from playwright.sync_api import sync_playwright  # of requirements-dev.txt

    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        visited = Page(browser, url)
        times = {faces: visited.milliseconds(faces, repeats) for faces in FACES}
        browser.close()
    return times


def format_percentiles(milliseconds: list[float]) -> str:
    return "".join(f"{value:8.1f}" for value in np.percentile(milliseconds, [50, 95]))


def measure_fresh_process(model: str, repeats: int) -> None:
    start = time.perf_counter()
    with running_demo(model) as demo:
        first_answer(demo, picture_with_faces(1))
        print(f"\nfresh process: {time.perf_counter() - start:.1f} s from its start to its first answer")
        try:
            clicks = measure_clicks(demo.url, repeats)
        except (ImportError, NoBrowser) as error:
            print(f"no browser measured: {error}")
            return
    for faces, times in clicks.items():
        print(f"  {f'click to answer, {faces} faces':<28}{format_percentiles(times)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a model folder or a Hub id")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    measure_fresh_process(arguments.model, arguments.repeats)
    start = time.perf_counter()
    served = find_model(ModelChoice(default_name(arguments.model), arguments.model))
    _ = served.pipeline  # read at its first use
    handlers, detector = Handlers([served], concurrency=1), YuNetDetector(served.folder / YUNET_FILE)
    print(f"{served.name}, {torch.get_num_threads()} threads, loaded in {time.perf_counter() - start:.1f} s")
    for faces in FACES:
        print(f"\n{faces} pasted in 1280 x 720: milliseconds at p50 and p95")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.jpg"
            path.write_bytes(picture_with_faces(faces))
            stages = measure(handlers, detector, path, faces, arguments.repeats)
        stages["two ViT-B, forward only"] = measure_two_vit_b(faces, max(3, arguments.repeats // 5))
        for stage, (p50, p95) in stages.items():
            print(f"  {stage:<28}{p50:8.1f}{p95:8.1f}")


if __name__ == "__main__":
    with errors_explained():
        main()
