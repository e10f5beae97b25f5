"""The pipeline: pictures in, one prediction a face out."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from torch.utils.data import DataLoader
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator
from transformers.utils import cached_file, logging

from .configuration_age_gender import RANGE_SETS, TASK, age_range_label, check_age_ranges, parse_age_ranges
from .decoding_age_gender import age_interval, estimate_age, range_probabilities, softmax
from .errors import AgeGenderError
from .exported_age_gender import AgeGenderOnnxModel
from .face_alignment import CASCADE_CROP, Face, align, resize_square
from .face_detection import YUNET_FILE, CascadeDetector, YuNetDetector
from .image_loading import load_rgb


UNSURE = "unsure"
FACES_PER_FORWARD = 64  # bounds memory: more faces than this take several forward passes

logger = logging.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class PreparedFaces:
    """What `AgeGenderPipeline.preprocess` makes of one picture with N faces.

    pixel_values: (N, 3, S, S), normalised, on the CPU.
    faces: N, in the order of the answers.
    crops: N aligned crops, (S, S, 3) uint8 RGB each, from which `pixel_values` were computed.
    size_wh: width and height of the upright picture in pixels.
    """

    pixel_values: torch.Tensor
    faces: list[Face]
    crops: list[np.ndarray]
    size_wh: tuple[int, int]


@dataclass(frozen=True, eq=False)
class FaceLogits:
    """What `AgeGenderPipeline.forward` computes for one picture with N faces: float64 on the CPU.

    age_logits: (N, max_age + 1), one a year.
    gender_logits: (N, genders).
    """

    prepared: PreparedFaces
    age_logits: torch.Tensor
    gender_logits: torch.Tensor


class AgeGenderPipeline(Pipeline):
    """Estimate how old, and of which gender, the faces in a picture look.

    >>> pipe = pipeline("age-gender-classification", model="user/repo", trust_remote_code=True)
    >>> pipe("photo.jpg")                               # one dict a face, from left to right; [] without a face
    >>> pipe(["a.jpg", "b.jpg"], batch_size=32)         # one such list a picture
    >>> pipe(crop, detect=False)                        # the picture is a face crop already
    >>> pipe("photo.jpg", boxes=[(10, 20, 90, 110)])    # faces found elsewhere
    >>> pipe("photo.jpg", age_ranges="0-17, 18+")       # the same prediction in other ranges

    or, from the repository's own classes: `AgeGenderPipeline(model=model, image_processor=image_processor)`.

    A picture is a path, an http(s) URL, encoded bytes, a PIL image or a uint8 RGB array; see `load_rgb`.
    """

    _load_image_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_processor = False

    def __init__(self, *args, revision: str | None = None, onnx_file: str | None = None, **kwargs):
        """
        Args:
            revision: where the model came from on the Hub, for its other files; needed only with the local classes.
            onnx_file: compute with this file of the model, `"onnx/model_int8.onnx"` say, on onnxruntime.
        """
        kwargs.setdefault("task", TASK)
        super().__init__(*args, **kwargs)
        self.model.eval()
        name_or_path, revision = self.model.config.name_or_path, revision or _revision_of_this_code()
        self.onnx_model = AgeGenderOnnxModel(_file_of_model(name_or_path, onnx_file, revision)) if onnx_file else None
        self._yunet_file = _find_yunet(name_or_path, revision)
        self._yunet = YuNetDetector(self._yunet_file) if self._yunet_file else None
        if self._yunet is None:
            logger.warning(f"No {YUNET_FILE} beside the model: OpenCV's cascade finds the faces, which misses more.")
        self._detector(self._preprocess_params.get("detector"))  # fail now, and not at the first picture

    def __call__(self, inputs, boxes=None, **kwargs):
        """
        Args:
            inputs: a picture, or a list or generator of pictures.
            boxes: x0, y0, x1, y1 in pixels of the upright picture, one a face; for a list of pictures one such list each.
            detect: False takes the whole picture (its largest centred square) as the face crop.
            detector: `"yunet"` or `"haar"`; by default YuNet, and OpenCV's cascade where YuNet's file is missing.
            min_score: drop faces that YuNet is less sure of, 0 to 1.
            age_ranges: answer in these ranges: `"0-17, 18+"`, `[[0, 17], [18, 116]]`, or the name of a set in `RANGE_SETS`.
            return_years: add `year_probabilities`, the whole distribution the ranges are summed from.
            batch_size: pictures whose faces go through the model together.

        Returns:
            A list with one dict a face, from left to right (given boxes keep their order); for a list of pictures, a list
            of such lists. Plain Python numbers and strings:

            - `box`: [x0, y0, x1, y1], pixels of the upright picture
            - `detection_score`: 0 to 1; None where nothing gave one (cascade, given boxes, `detect=False`)
            - `age`: years; `age_interval`: [low, high], years, which hold the labelled age in
              `config.interval_coverage` of faces like those it was measured on
            - `age_range`: the most probable range; `age_ranges`: {range: probability}
            - `gender`: what the face looks like, or `"unsure"` below `config.gender_threshold`;
              `genders`: {name: probability}
            - `abstained`: None, or why there is no answer: all fields from `age` to `genders` are None then
            - `year_probabilities`, if asked for: `config.max_age + 1` numbers, one a year

        Raises:
            PictureError: the picture cannot be used, or there is none at that path.
            AgeGenderError: an option, the boxes or the ranges cannot be used, or YuNet's file is missing.
        """
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if boxes is not None:
            if isinstance(inputs, list):
                if len(boxes) != len(inputs):
                    raise AgeGenderError(
                        f"Expected one list of boxes a picture; got {len(boxes)} lists for {len(inputs)} pictures."
                    )
                inputs = [{"picture": picture, "boxes": of} for picture, of in zip(inputs, boxes, strict=True)]
            else:
                inputs = {"picture": inputs, "boxes": boxes}
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """As every pipeline does, with this code and YuNet's file: a folder that loads by itself."""
        super().save_pretrained(save_directory, **kwargs)
        target = Path(save_directory, YUNET_FILE)
        if self._yunet_file and not (target.exists() and target.samefile(self._yunet_file)):
            shutil.copyfile(self._yunet_file, target)

    def _sanitize_parameters(
        self,
        detect: bool | None = None,
        detector: Literal["yunet", "haar"] | None = None,
        min_score: float | None = None,
        age_ranges: str | Sequence | None = None,
        return_years: bool | None = None,
    ):
        if detector not in (None, "yunet", "haar"):
            raise AgeGenderError(f"Expected detector='yunet' or 'haar'; got {detector!r}.")
        find = {"detect": detect, "detector": detector, "min_score": min_score}
        answer = {"return_years": return_years}
        if age_ranges is not None:
            answer["age_ranges"] = _read_ranges(age_ranges, self.model.config.max_age)
        return tuple({k: v for k, v in params.items() if v is not None} for params in (find, {}, answer))

    def preprocess(
        self, inputs: Any, detect: bool = True, detector: str | None = None, min_score: float = 0.7
    ) -> PreparedFaces:
        """Load one picture (or {"picture", "boxes"}), find its faces and align them."""
        boxes = None
        if isinstance(inputs, dict):
            inputs, boxes = inputs["picture"], inputs["boxes"]
        if boxes is not None and not detect:
            raise AgeGenderError("Expected boxes, or detect=False for a picture that is one face; got both. Give one.")
        image_rgb = load_rgb(inputs)
        height, width = image_rgb.shape[:2]
        config = self.model.config
        if not detect:
            faces = [Face(np.array([0.0, 0.0, width, height]))]
            crops = [resize_square(image_rgb, config.image_size)]
        else:
            if boxes is None:
                faces = self._detector(detector).detect(image_rgb, min_score)
            else:
                faces = [self._face_from_box(image_rgb, box, detector) for box in boxes]
            crops = [align(image_rgb, face, config.landmarks_xy, config.image_size) for face in faces]
        pixel_values = torch.empty(0, 3, config.image_size, config.image_size)
        if crops:
            pixel_values = self.image_processor(
                crops, do_resize=False, input_data_format="channels_last", return_tensors="pt"
            )["pixel_values"]
        return PreparedFaces(pixel_values, faces, crops, (width, height))

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Pictures hold any number of faces, so a batch is joined by face and not padded by picture as in the base."""
        if isinstance(inputs, Iterator):
            dataset = PipelineIterator(inputs, self.preprocess, preprocess_params)
            num_workers = min(num_workers, 1)  # several would each read the whole stream
        else:
            dataset = PipelineDataset(inputs, self.preprocess, preprocess_params)
        for batch in DataLoader(dataset, num_workers=num_workers, batch_size=batch_size, collate_fn=list):
            yield from self.answer(batch, **forward_params, **postprocess_params)

    def prepare(self, picture: Any) -> PreparedFaces:
        """`preprocess` with the options this pipeline was made with: for threads that work ahead of `answer`."""
        return self.preprocess(picture, **self._preprocess_params)

    def answer(
        self, prepared: Sequence[PreparedFaces], faces_per_forward: int = FACES_PER_FORWARD, **postprocess_params
    ) -> list[list[dict[str, Any]]]:
        """Answer for several prepared pictures, whose faces go through the model together: one list of faces a picture.

        Args:
            postprocess_params: of `postprocess`, before the options this pipeline was made with.
        """
        options = self._postprocess_params | postprocess_params
        return [self.postprocess(logits, **options) for logits in self.forward_batch(prepared, faces_per_forward)]

    @property
    def age_ranges(self) -> list[list[int]]:
        """What answers are given in: the ranges this pipeline was made with, else the model's own."""
        return self._postprocess_params.get("age_ranges") or self.model.config.age_ranges

    def forward(self, prepared: PreparedFaces, **forward_params) -> FaceLogits:
        """Run the model on the faces of one picture."""
        return self.forward_batch([prepared], **forward_params)[0]

    def forward_batch(
        self, prepared: Sequence[PreparedFaces], faces_per_forward: int = FACES_PER_FORWARD
    ) -> list[FaceLogits]:
        """Run the model on the faces of several pictures together, at most `faces_per_forward` at a time."""
        return super().forward(list(prepared), faces_per_forward=faces_per_forward)

    def _forward(self, prepared: list[PreparedFaces], faces_per_forward: int) -> list[FaceLogits]:
        """Moves tensors to and from the device itself: the base class finds them in dicts and lists only."""
        config = self.model.config
        age_logits = [torch.empty(0, config.max_age + 1, dtype=torch.float64)]
        gender_logits = [torch.empty(0, len(config.gender_names), dtype=torch.float64)]
        counts = [len(item.faces) for item in prepared]
        if sum(counts):
            network = self.onnx_model or self.model
            for chunk in torch.cat([item.pixel_values for item in prepared]).split(faces_per_forward):
                output = network(chunk.to(self.device, self.dtype))
                age_logits.append(output.age_logits.cpu().double())  # in this order: Apple's GPUs know no float64
                gender_logits.append(output.gender_logits.cpu().double())
        of_pictures = zip(
            prepared, torch.cat(age_logits).split(counts), torch.cat(gender_logits).split(counts), strict=True
        )
        return [FaceLogits(*of_picture) for of_picture in of_pictures]

    def postprocess(
        self, logits: FaceLogits, age_ranges: list[list[int]] | None = None, return_years: bool = False
    ) -> list[dict[str, Any]]:
        """Logits of one picture's faces -> the answer that `__call__` describes."""
        config = self.model.config
        age_ranges = age_ranges or config.age_ranges
        labels = [age_range_label(low, high, config.max_age) for low, high in age_ranges]
        year_probs = softmax(logits.age_logits.numpy())
        gender_probs = softmax(logits.gender_logits.numpy())
        ages, intervals = estimate_age(year_probs, config.age_estimate), age_interval(year_probs, config.interval_mass)
        range_probs = range_probabilities(year_probs, age_ranges)

        answers = []
        for index, face in enumerate(logits.prepared.faces):
            best_gender = int(gender_probs[index].argmax())
            is_sure = gender_probs[index, best_gender] >= config.gender_threshold
            prediction = {
                "age": float(ages[index]),
                "age_interval": intervals[index].tolist(),
                "age_range": labels[int(range_probs[index].argmax())],
                "age_ranges": dict(zip(labels, range_probs[index].tolist(), strict=True)),
                "gender": config.gender_names[best_gender] if is_sure else UNSURE,
                "genders": dict(zip(config.gender_names, gender_probs[index].tolist(), strict=True)),
            }
            if return_years:
                prediction["year_probabilities"] = year_probs[index].tolist()
            abstained = None
            if face.width < config.min_face_pixels:
                prediction = dict.fromkeys(prediction)
                abstained = f"The face is {face.width:.0f} pixels wide; at least {config.min_face_pixels} are needed."
            box = _box_inside(face.box_xyxy, logits.prepared.size_wh)
            answers.append({"box": box, "detection_score": face.score, **prediction, "abstained": abstained})
        return answers

    @cached_property
    def _cascade(self) -> CascadeDetector:
        return CascadeDetector(self.model.config.cascade_crop or CASCADE_CROP)

    def _detector(self, name: str | None) -> YuNetDetector | CascadeDetector:
        if name == "yunet" and self._yunet is None:
            raise ModelFileError(f"No {YUNET_FILE} beside the model. Put it there, or use detector='haar'.")
        return self._cascade if name == "haar" or self._yunet is None else self._yunet

    def _face_from_box(self, image_rgb: np.ndarray, box: Sequence[float], detector: str | None) -> Face:
        box_xyxy = np.asarray(box, dtype=float)
        height, width = image_rgb.shape[:2]
        if (
            box_xyxy.shape != (4,)
            or not np.isfinite(box_xyxy).all()
            or (np.minimum(box_xyxy[2:], (width, height)) <= np.maximum(box_xyxy[:2], 0)).any()
        ):
            raise AgeGenderError(
                f"Expected boxes as (x0, y0, x1, y1) in pixels, with x0 < x1 and y0 < y1, that touch the picture of "
                f"{width} x {height} pixels; got {box!r}."
            )
        detector = self._detector(detector)
        face = Face(box_xyxy)
        return detector.find_landmarks(image_rgb, face) if detector is self._yunet else face


def _read_ranges(age_ranges: str | Sequence, max_age: int) -> list[list[int]]:
    if isinstance(age_ranges, str):
        return parse_age_ranges(RANGE_SETS.get(age_ranges, age_ranges), max_age)
    if all(isinstance(part, str) for part in age_ranges):
        return parse_age_ranges(age_ranges, max_age)
    return check_age_ranges(age_ranges, max_age)


def _box_inside(box_xyxy: np.ndarray, size_wh: tuple[int, int]) -> list[int]:
    return np.clip(np.rint(box_xyxy), 0, np.tile(size_wh, 2)).astype(int).tolist()


class ModelFileError(AgeGenderError, FileNotFoundError):
    """A file that belongs to the model is missing, or may not be read."""


def _file_of_model(name_or_path: str, file: str, revision: str | None, **options: bool) -> str | None:
    """As `cached_file`, whose own advice, to give `pipeline` a token, does not help: `pipeline` hands on no token."""
    try:
        return cached_file(name_or_path, file, revision=revision, **options)
    except OSError as error:
        if not isinstance(error.__cause__, RepositoryNotFoundError):
            raise
        raise ModelFileError(
            f"{file} of {name_or_path} cannot be read. If the repository is private, set HF_TOKEN or run `hf auth login`: "
            "a token given to `pipeline` serves the weights and the code alone."
        ) from error


def _find_yunet(name_or_path: str, revision: str | None) -> str | None:
    """YuNet's file from the folder, or the Hub repository, that the model came from; else from beside this code."""
    found = None
    if name_or_path:
        no_error = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        try:
            found = _file_of_model(name_or_path, YUNET_FILE, revision, **no_error)
        except ModelFileError as error:
            logger.warning(str(error))
    beside = Path(__file__).with_name(YUNET_FILE)
    return found or (str(beside) if beside.is_file() else None)


def _revision_of_this_code() -> str | None:
    """transformers puts code from the Hub into a module named after its commit, and tells the pipeline no other way."""
    parts = __name__.split(".")
    return parts[-2] if parts[0] == "transformers_modules" and re.fullmatch("[0-9a-f]{40}", parts[-2]) else None


# AutoModel, not AgeGenderModel: config.json names the class, and `pipeline` looks that name up in transformers. Set by
# hand because `register_pipeline` warns when two revisions of this file are loaded by one program.
AgeGenderPipeline._registered_impl = {TASK: {"impl": AgeGenderPipeline, "pt": (AutoModel,)}}
PIPELINE_REGISTRY.supported_tasks.setdefault(TASK, AgeGenderPipeline._registered_impl[TASK])
