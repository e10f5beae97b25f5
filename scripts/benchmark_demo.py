"""How long the demo takes from picture to answer, by stage, beside the usual alternative: one ViT-B for age, one for gender.

python -m scripts.benchmark_demo                    # the model in model/
python -m scripts.benchmark_demo --model outputs/run --repeats 50
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

from demo.answering import Answers
from demo.cards import thumbnail
from demo.drawing import draw_faces
from demo.serving import load_served_model
from demo.settings import DEFAULT_MODEL
from model.face_alignment import align
from model.face_detection import YUNET_FILE, YuNetDetector
from model.image_loading import load_rgb


PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"
PICTURE_WH = (1280, 720)


def picture_with_faces(faces: int) -> bytes:
    """A JPEG of 1280 x 720 pixels with the same portrait pasted `faces` times."""
    picture = Image.new("RGB", PICTURE_WH, "#888")
    columns = int(np.ceil(np.sqrt(faces * PICTURE_WH[0] / PICTURE_WH[1])))
    side = PICTURE_WH[0] // columns
    head = Image.open(PORTRAIT).crop((100, 0, 350, 250)).resize((side, side))
    for index in range(faces):
        picture.paste(head, (side * (index % columns), side * (index // columns)))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def milliseconds(action: Callable[[], object], repeats: int) -> tuple[float, float]:
    """50th and 95th percentile, after one run to warm up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.percentile(times, 50)), float(np.percentile(times, 95))


def measure(answers: Answers, detector: YuNetDetector, path: Path, repeats: int) -> dict[str, tuple[float, float]]:
    pipe, config = answers.pipe, answers.config
    image_rgb = load_rgb(path)
    image, found = Image.fromarray(image_rgb), detector.detect(image_rgb)
    inputs, shown = pipe.preprocess(image_rgb), pipe(image_rgb)
    upload = {"path": str(path), "orig_name": path.name}

    def draw() -> None:
        draw_faces(image, shown).save(io.BytesIO(), "JPEG")
        for face in shown:
            thumbnail(image, face["box"])

    return {
        "decode": milliseconds(lambda: load_rgb(path), repeats),
        "detect": milliseconds(lambda: detector.detect(image_rgb), repeats),
        "align": milliseconds(
            lambda: [align(image_rgb, face, config.landmarks_xy, config.image_size) for face in found], repeats
        ),
        "model": milliseconds(lambda: pipe.forward(dict(inputs)), repeats),
        "draw": milliseconds(draw, repeats),
        f"picture to page, {len(found)} faces": milliseconds(lambda: answers.show(upload, ""), repeats),
    }


@torch.inference_mode()
def measure_two_vit_b(faces: int, repeats: int) -> tuple[float, float]:
    """Forward passes only, on ready crops; random weights take the same time as trained ones."""
    classifiers = [ViTForImageClassification(ViTConfig(num_labels=labels)).eval() for labels in (9, 2)]
    pixel_values = torch.rand(faces, 3, 224, 224)
    return milliseconds(lambda: [classifier(pixel_values).logits for classifier in classifiers], repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a model folder or a Hub id")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    start = time.perf_counter()
    served = load_served_model(arguments.model, None)
    answers, detector = Answers(served, max_pictures=1), YuNetDetector(served.folder / YUNET_FILE)
    print(f"{served.name}, {torch.get_num_threads()} threads, loaded in {time.perf_counter() - start:.1f} s")
    for faces in (1, 20):
        print(f"\n{faces} pasted in 1280 x 720: milliseconds at p50 and p95")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.jpg"
            path.write_bytes(picture_with_faces(faces))
            stages = measure(answers, detector, path, arguments.repeats)
        stages["two ViT-B, forward only"] = measure_two_vit_b(faces, max(3, arguments.repeats // 10))
        for stage, (p50, p95) in stages.items():
            print(f"  {stage:<28}{p50:8.1f}{p95:8.1f}")


if __name__ == "__main__":
    main()
