"""How near the answers on the visitor's device are to the pipeline's, in a real Chromium: a table for docs/device.md.

    python -m scripts.benchmarks.device_parity --faces UTKFace.tar.gz --count 200
    python -m scripts.benchmarks.device_parity --faces UTKFace.tar.gz --count 200 --fp32   # the device's network in fp32
    python -m scripts.benchmarks.device_parity --faces UTKFace.tar.gz --count 200 --engine webgpu   # by WebGPU

The last rows say how near the pipeline's own answers are to each other when YuNet runs on OpenCV in place of
onnxruntime. Where there is no graphics processor, Chromium computes what WebGPU is asked in software.

Needs the model's onnx/model_web.onnx (`python -m scripts.export_onnx --web`) and requirements-dev.txt.
"""

import argparse
import base64
import copy
import io
import json
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.data import coffee

from demo.device_files import write_site
from demo.serving import find_model
from demo.settings import DEFAULT_MODEL, ModelChoice
from model.face_detection import YuNetDetector
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.requirements import COMPARISON, WEIGHTS, sha256
from scripts.benchmarks.turned_faces import PORTRAIT, on_canvas, scaled, tilted
from scripts.benchmarks.visiting import launch_chromium, serve_folder
from scripts.command import errors_explained
from trainer.onnx.export import WEB_FILE, write_fp32


if TYPE_CHECKING:
    from playwright.sync_api import Page

LOAD = """async engine => {
  const {DeviceModel} = await import(new URL('device/device_model.js', location.href))
  const {useTexts} = await import(new URL('texts.js', location.href))
  useTexts(await (await fetch(new URL('texts.json', location.href))).json())
  window.device = await DeviceModel.load(new URL('manifest.json', location.href), undefined, engine)
  return device.engine
}"""
PREDICT = """async ([png, whole]) => {
  const bytes = Uint8Array.from(atob(png), letter => letter.charCodeAt(0))
  const {faces} = await device.predict(new Blob([bytes]), {whole})
  return faces.map(face => ({...face, age_ranges: face.age_ranges && [...face.age_ranges]}))
}"""


@dataclass(frozen=True)
class Difference:
    """Largest differences between the faces of one picture, as the device and as the pipeline answer.

    faces: found by the pipeline, by the device; box_pixels, age_years: of a face; gender_share: of a probability.
    other_answers: what else differs, in words.
    """

    faces: tuple[int, int]
    box_pixels: int = 0
    age_years: float = 0.0
    gender_share: float = 0.0
    other_answers: tuple[str, ...] = ()


def pictures() -> dict[str, np.ndarray]:
    """Name -> (H, W, 3) uint8: one public-domain portrait in all sizes, tilts and places, and pictures without a face."""
    head = PORTRAIT[20:220, 130:330]
    small_head = cv2.resize(head, (110, 110), interpolation=cv2.INTER_AREA)
    drawing = cv2.circle(np.full((300, 300, 3), 230, np.uint8), (150, 150), 90, (240, 200, 160), -1)
    for center in ((120, 130), (180, 130), (150, 195)):
        cv2.circle(drawing, center, 12, (60, 40, 30), -1)
    return {
        "portrait": PORTRAIT,
        "tilted 25 degrees": tilted(25),
        "tilted -30 degrees": tilted(-30),
        "on its side": np.rot90(PORTRAIT),
        "turned 140 degrees": tilted(140),
        "upside down": np.rot90(PORTRAIT, 2),
        "at 0.4 times": scaled(0.4),
        "at 4 times": scaled(4),
        "group of 6": np.tile(small_head, (2, 3, 1)),
        "fills the picture": PORTRAIT[60:185, 170:275],
        "cut off by the edge": PORTRAIT[:, 200:],
        "far away": on_canvas(scaled(0.33), 1280, 720, 900, 400),
        "too small to answer": on_canvas(scaled(0.2), 300, 300, 50, 50),
        "drawn face": drawing,
        "no face": coffee()[::2, ::2],
    }


def compare(
    page: "Page", pipe: AgeGenderPipeline, shown: Mapping[str, np.ndarray], whole: bool = False
) -> dict[str, Difference]:
    """Ask both about each picture; `page` is one that has run `LOAD`."""
    differences = {}
    for name, picture in shown.items():
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        on_device = page.evaluate(PREDICT, [base64.b64encode(buffer.getvalue()).decode(), whole])
        differences[name] = difference(pipe(np.ascontiguousarray(picture), detect=not whole), on_device, pipe)
    return differences


def difference(expected: list[dict[str, Any]], faces: list[dict[str, Any]], pipe: AgeGenderPipeline) -> Difference:
    counts = (len(expected), len(faces))
    if counts[0] != counts[1]:
        return Difference(counts, other_answers=("faces",))
    box, age, share, others = 0, 0.0, 0.0, []
    threshold = pipe.model.config.gender_threshold
    for one, other in zip(expected, faces, strict=True):
        box = max(box, *(abs(a - b) for a, b in zip(one["box"], other["box"], strict=True)))
        if one["abstained"] != other["abstained"]:
            others.append("abstained")
        elif abs((one["roll_degrees"] or 0) - (other["roll_degrees"] or 0)) > 2:
            others.append("roll")
        elif not one["abstained"]:
            age = max(age, abs(one["age"] - other["age"]))
            share = max(share, *(abs(one["genders"][name] - other["genders"][name]) for name in one["genders"]))
            is_near_threshold = abs(max(one["genders"].values()) - threshold) < 0.02
            if one["gender"] != other["gender"] and not is_near_threshold:
                others.append("gender")
            if [label for label, _ in other["age_ranges"]] != list(one["age_ranges"]):
                others.append("age ranges")
    return Difference(counts, box, age, share, tuple(others))


def faces_of(archive: Path, count: int) -> dict[str, np.ndarray]:
    """The first `count` pictures of a .tar.gz."""
    shown: dict[str, np.ndarray] = {}
    with tarfile.open(archive) as files:
        for member in files:
            if len(shown) == count:
                break
            if member.isfile() and member.name.endswith((".jpg", ".png", ".webp")):
                content = files.extractfile(member)
                assert content is not None
                shown[member.name] = np.asarray(Image.open(content).convert("RGB"))
    return shown


def in_fp32(folder: Path, copied: Path) -> Path:
    """A copy of a model's folder whose network for browsers is that in fp32."""
    shutil.copytree(folder, copied)
    model = AgeGenderModel.from_pretrained(folder, dtype=torch.float32).eval()
    weights_sha256, network = sha256(folder / WEIGHTS), copied / "onnx" / WEB_FILE
    write_fp32(model, network, weights_sha256)
    files = {WEB_FILE: {"sha256": sha256(network)}}
    (copied / COMPARISON).write_text(json.dumps({"weights_sha256": weights_sha256, "files": files}))
    return copied


def between_engines(pipe: AgeGenderPipeline, shown: Mapping[str, np.ndarray]) -> list[Difference]:
    """The same differences between the pipeline and itself with YuNet on OpenCV."""
    on_opencv = copy.copy(pipe)
    on_opencv._yunet = YuNetDetector(str(pipe._yunet_file), "opencv")
    differences = []
    for picture in shown.values():
        expected, answers = pipe(picture), on_opencv(picture)
        for face in answers:
            face["age_ranges"] = [[label, share] for label, share in face["age_ranges"].items()]
        differences.append(difference(expected, answers, pipe))
    return differences


def summary(differences: list[Difference], percent: float) -> Difference:
    """The differences that so many percent of the pictures do not exceed."""

    def most(values: list[float]) -> float:
        return float(np.percentile(values, percent, method="lower"))

    return Difference(
        (sum(one.faces[0] for one in differences), sum(one.faces[1] for one in differences)),
        round(most([one.box_pixels for one in differences])),
        most([one.age_years for one in differences]),
        most([one.gender_share for one in differences]),
        tuple(answer for one in differences for answer in one.other_answers),
    )


def main() -> None:
    from playwright.sync_api import sync_playwright  # of requirements-dev.txt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a model folder or a Hub id")
    parser.add_argument("--faces", type=Path, help="a .tar.gz of faces")
    parser.add_argument("--count", type=int, default=100, help="how many of them")
    parser.add_argument("--fp32", action="store_true", help="the network on the device in fp32; needs a model folder")
    parser.add_argument(
        "--engine", choices=("wasm", "webgpu"), help="what runs the network; default: the fastest there is"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        model = str(in_fp32(Path(args.model), Path(folder) / "model")) if args.fp32 else args.model
        served = find_model(ModelChoice("model", model))
        write_site(served, Path(folder) / "site")
        with serve_folder(Path(folder) / "site") as address:
            browser = launch_chromium(playwright, with_webgpu=args.engine == "webgpu")
            page = browser.new_page()
            page.goto(address)
            print(f"The network runs on {page.evaluate(LOAD, args.engine)}.\n")
            rows = compare(page, served.pipeline, pictures())
            if args.faces:
                shown = faces_of(args.faces, args.count)
                of_faces = {
                    f"{len(shown)} faces of {args.faces.name}": list(compare(page, served.pipeline, shown).values()),
                    "them, the pipeline on both engines": between_engines(served.pipeline, shown),
                }
                for name, found in of_faces.items():
                    for title, percent in (("99 % of", 99), ("all of", 100)):
                        rows[f"{title} {name}"] = summary(found, percent)
            browser.close()
    print(
        "| picture | faces, pipeline and device | box (pixels) | age (years) | gender (probability) | other answers |"
    )
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        others = ", ".join(f"{count} x {name}" for name, count in sorted(Counter(row.other_answers).items())) or "none"
        print(
            f"| {name} | {row.faces[0]} and {row.faces[1]} | {row.box_pixels} | {row.age_years:.2f} | "
            f"{row.gender_share:.3f} | {others} |"
        )


if __name__ == "__main__":
    with errors_explained():
        main()
