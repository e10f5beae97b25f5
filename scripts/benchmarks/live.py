"""The live camera on the visitor's device beside the server's stream, in one Chromium and one run: how often boxes come, how long
each stage takes, and what a first visit loads.

    python -m scripts.benchmarks.live --seconds 10

Needs the model's onnx/model_web.onnx (`python -m scripts.export_onnx --web`) and requirements-dev.txt. Both ways are measured in
turn, so that their ratio means something on a busy machine too.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from skimage.data import astronaut

from demo.settings import DEFAULT_MODEL
from scripts.benchmarks.visiting import launch_chromium, running_demo, write_frames
from scripts.command import errors_explained


if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
FACES = (1, 5)
FILM_FRAMES = 60
# What the component reports of its stages, and how smoothly the video plays meanwhile.
WATCH_DEVICE = """async seconds => {
  const found = [], answered = [], video = document.querySelector('.device-stage video')
  const note = list => ({detail}) => list.push(detail)
  const listeners = [['found', note(found)], ['answered', note(answered)]]
  for (const [event, listener] of listeners) document.addEventListener(event, listener)
  const shown = () => video.getVideoPlaybackQuality().totalVideoFrames
  const before = shown(), start = performance.now()
  await new Promise(resolve => setTimeout(resolve, 1000 * seconds))
  for (const [event, listener] of listeners) document.removeEventListener(event, listener)
  return {found, answered, shown: shown() - before, seconds: (performance.now() - start) / 1000}
}"""
# The server's answers: on a moving face each of them changes the layer.
WATCH_SERVER = """async seconds => {
  const layer = document.querySelector('#overlay'), start = performance.now()
  let answers = 0, before = layer.innerHTML
  for (const end = start + 1000 * seconds; performance.now() < end; await new Promise(requestAnimationFrame)) {
    if (layer.innerHTML === before) continue
    before = layer.innerHTML
    answers++
  }
  return {answers, seconds: (performance.now() - start) / 1000}
}"""
LOADED = """performance.getEntriesByType('resource').filter(({name}) => name.includes('/device/'))
  .reduce((sum, {encodedBodySize}) => sum + encodedBodySize, 0)"""


def write_faces(path: Path, faces: int) -> Path:
    """A film of one second or two in which `faces` portraits sway."""
    side = 240 if faces == 1 else 120
    head = Image.fromarray(astronaut()).crop((124, 20, 324, 220)).resize((side, side))
    frames = []
    for index in range(FILM_FRAMES):
        frame = Image.new("RGB", (640, 480), "#444")
        for face in range(faces):
            sway = round(30 * np.sin(2 * np.pi * index / FILM_FRAMES + face))
            row, column = divmod(face, 3)
            frame.paste(head, (200 + sway, 100) if faces == 1 else (60 + 190 * column + sway, 80 + 180 * row))
        frames.append(frame)
    return write_frames(path, frames)


def measure(page: "Page", faces: int, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `WATCH_DEVICE` and `WATCH_SERVER` return, measured sequentially."""
    page.get_by_role("tab", name="Live camera").click()
    page.get_by_role("button", name="Start the camera").click()
    page.locator(f".device-layer[data-faces='{faces}']").wait_for()
    page.locator("#live :is(.hero-age, .row-age)").first.wait_for()
    on_device = page.evaluate(WATCH_DEVICE, seconds)
    on_device["loaded"] = page.evaluate(LOADED)
    page.get_by_label("On the server").check()
    page.get_by_role("button", name="Start the camera").click()
    page.locator("#overlay svg").first.wait_for()
    return on_device, page.evaluate(WATCH_SERVER, seconds)


def report(faces: int, on_device: dict[str, Any], on_server: dict[str, Any]) -> None:
    seconds = on_device["seconds"]
    per_second = {
        "video, frames shown a second": on_device["shown"] / seconds,
        "device, boxes a second": len(on_device["found"]) / seconds,
        "device, answers a second, each of up to 4 faces": len(on_device["answered"]) / seconds,
        "server, boxes and answers a second": on_server["answers"] / on_server["seconds"],
    }
    print(f"\n{faces} face{'s' * (faces > 1)}")
    for name, value in per_second.items():
        print(f"  {name:<50}{value:8.1f}")
    print(f"  {'device, milliseconds at p50 and p95':<50}")
    stages = {stage: [one[stage] for one in on_device["found"]] for stage in ("pixels", "detect", "total")}
    stages |= {"align": [one["align"] for one in on_device["answered"]]}
    stages |= {"answer": [one["total"] for one in on_device["answered"]]}
    for stage, values in stages.items():
        p50, p95 = np.percentile(values, [50, 95]) if values else (np.nan, np.nan)
        print(f"    {stage:<48}{p50:8.1f}{p95:8.1f}")


def main() -> None:
    from playwright.sync_api import sync_playwright  # of requirements-dev.txt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a model folder or a Hub id")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    args = parser.parse_args()
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{os.cpu_count()} cores, load average {loads} at the start")
    with running_demo(args.model) as demo, sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        demo.wait_until_it_answers()
        for faces in FACES:
            browser = launch_chromium(playwright, write_faces(Path(folder) / f"{faces}.mjpeg", faces))
            page = browser.new_context(permissions=["camera"]).new_page()
            page.set_default_timeout(120_000)
            page.goto(demo.url)
            on_device, on_server = measure(page, faces, args.seconds)
            if faces == FACES[0]:
                print(f"a first visit loads {on_device['loaded'] / 1e6:.1f} MB for the device")
            report(faces, on_device, on_server)
            browser.close()


if __name__ == "__main__":
    with errors_explained():
        main()
