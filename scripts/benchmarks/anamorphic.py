"""What pixels that are not square cost: faces in videos as a DVD stores them, with and without their aspect ratio.

    python -m scripts.benchmarks.anamorphic UTKFace.tar.gz

writes labelled face crops, each on a grey canvas, as the frames of one video for each aspect ratio, and scores it twice as
`scripts.predict` does: as the file says, and as if it did not say it.
"""

import argparse
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
from transformers import AutoImageProcessor

from model.image_loading import load_rgb
from model.modeling_age_gender import AgeGenderModel
from scoring.inputs import all_entries, open_sources
from scoring.scorer import Scorer, read_entries
from scripts.command import errors_explained
from trainer.data.archives import read_archive
from trainer.data.labels import FaceLabels, labels_from_name


ASPECTS = {"square pixels": Fraction(1), "DVD, 4:3": Fraction(16, 15), "DVD, 16:9": Fraction(64, 45)}
SIDE = 480  # pixels of the upright canvas; the face crop takes half of it


def labelled_faces(archive: Path, count: int) -> list[tuple[np.ndarray, FaceLabels]]:
    """(SIDE, SIDE, 3) uint8 RGB with one face each, evenly from the archive, and their labels."""
    members = [(member, labels_from_name(member.name)) for member in read_archive(archive)]
    good = [(member, labels) for member, labels in members if not labels.problem and member.content]
    faces = []
    for member, labels in good[:: max(len(good) // count, 1)][:count]:
        canvas = PIL.Image.new("RGB", (SIDE, SIDE), "grey")
        crop = PIL.Image.fromarray(load_rgb(member.content or b"")).resize((SIDE // 2, SIDE // 2))
        canvas.paste(crop, (SIDE // 4, SIDE // 4))
        faces.append((np.asarray(canvas), labels))
    return faces


def write_video(faces: list[tuple[np.ndarray, FaceLabels]], aspect: Fraction, path: Path, *, says_so: bool) -> None:
    """One frame a second, squeezed by `aspect`, at a quality of which no loss is seen."""
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=1, options={"qmin": "1", "qmax": "2"})
        stream.width, stream.height, stream.bit_rate = 2 * round(SIDE / aspect / 2), SIDE, 50_000_000
        stream.pix_fmt, stream.sample_aspect_ratio = "yuv420p", aspect if says_so else Fraction(1)
        for face, _ in faces:
            squeezed = PIL.Image.fromarray(face).resize((stream.width, stream.height), PIL.Image.Resampling.LANCZOS)
            video.mux(stream.encode(av.VideoFrame.from_image(squeezed)))
        video.mux(stream.encode(None))


def score(scorer: Scorer, faces: list[tuple[np.ndarray, FaceLabels]], video: Path) -> str:
    errors, correct, found = [], [], 0
    for scored, (_, labels) in zip(
        scorer.score(read_entries(all_entries(open_sources([str(video)])))), faces, strict=True
    ):
        answers = [face for face in scored.faces if not face["abstained"]]
        found += bool(answers)
        if answers:
            errors.append(abs(answers[0]["age"] - labels.age))
            correct.append(
                max(answers[0]["genders"], key=answers[0]["genders"].get) == ("male", "female")[labels.gender]
            )
    return f"{np.mean(errors):.2f} | {100 * np.mean(correct):.1f} | {found} of {len(faces)}"


def rows(archive: Path, model_folder: str, count: int) -> Iterator[str]:
    model = AgeGenderModel.from_pretrained(model_folder)
    scorer = Scorer(model, AutoImageProcessor.from_pretrained(model_folder))
    faces = labelled_faces(archive, count)
    with tempfile.TemporaryDirectory() as folder:
        for name, aspect in ASPECTS.items():
            for says_so in (False, True):
                video = Path(folder) / "film.mkv"
                write_video(faces, aspect, video, says_so=says_so)
                yield f"| {name} ({aspect}) | {'read' if says_so else 'ignored'} | {score(scorer, faces, video)} |"
                if aspect == 1:
                    break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="face crops with UTKFace's names")
    parser.add_argument("--model", default="model")
    parser.add_argument("--faces", type=int, default=200)
    args = parser.parse_args()
    print("| stored as | aspect ratio | age MAE, years | gender, % | faces found |\n|---|---|---|---|---|")
    for row in rows(args.archive, args.model, args.faces):
        print(row, flush=True)


if __name__ == "__main__":
    with errors_explained():
        main()
