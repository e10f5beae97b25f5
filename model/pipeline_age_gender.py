"""The transformers pipeline: pictures in, one answer a face out."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import AutoModel, BaseImageProcessor, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator
from transformers.utils import logging

from .backbones import choose_memory_format
from .cascade_detection import CascadeDetector
from .configuration_age_gender import TASK, parse_age_ranges
from .dataset_inputs import as_list_or_stream, picture_of
from .decoding_age_gender import decode_predictions
from .errors import AgeGenderError
from .exported_age_gender import AgeGenderOnnxModel
from .face_alignment import CASCADE_CROP, Face, align, resize_square
from .face_detection import MIN_SCORE, YUNET_FILE, YuNetDetector
from .forked_processes import compute_without_lost_threads
from .image_loading import load_rgb
from .model_files import (
    ModelFileError,
    check_image_processor,
    copy_unless_same,
    fetch_file,
    find_file,
    revision_of_this_code,
)
from .modeling_age_gender import AgeGenderModel
from .prepared_faces import FaceLogits, PictureWithBoxes, PreparedFaces, describe_face, pair_with_boxes, why_no_answer


FACES_PER_FORWARD = 64  # bounds memory: more faces than this take several forward passes

logger = logging.get_logger(__name__)


class AgeGenderPipeline(Pipeline):
    """Estimate the age, and the gender by appearance, of every face in a picture.

    >>> pipe = pipeline("age-gender-classification", model="user/repo", trust_remote_code=True)
    >>> pipe("photo.jpg")                               # one dict a face, from left to right; [] without a face
    >>> pipe(["a.jpg", "b.jpg"], batch_size=32)         # one such list a picture
    >>> pipe(crop, detect=False)                        # the picture is a face crop already
    >>> pipe("photo.jpg", boxes=[(10, 20, 90, 110)])    # faces found by another detector
    >>> pipe("photo.jpg", age_ranges="0-17, 18+")       # the same prediction in other ranges

    or, from the repository's own classes: `AgeGenderPipeline(model=model, image_processor=image_processor)`.

    A picture is a path, an http(s) URL, base64 text, encoded bytes, a PIL image or a uint8 RGB array (see `load_rgb`), or
    a row or tensor of a dataset (see `picture_of`).
    """

    # transformers declares these flags as None, which is one of their three values.
    _load_image_processor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_processor = False  # type: ignore[assignment]

    model: AgeGenderModel
    image_processor: BaseImageProcessor
    _registered_impl: ClassVar[dict[str, Any]]

    def __init__(self, *args: Any, revision: str | None = None, onnx_file: str | None = None, **kwargs: Any):
        """
        Args:
            revision: revision of the Hub repository that `model` was loaded from, for its other files. Only needed
                with the local classes.
            onnx_file: run this exported file of the model on onnxruntime, for example `"onnx/model_int8.onnx"`.

        Raises:
            ModelFileError: `onnx_file`, YuNet's file, or the file of a detector that was asked for by name, cannot be read;
                or the preprocessing is not one for face crops.
        """
        kwargs.setdefault("task", TASK)
        super().__init__(*args, **kwargs)
        self.model.eval()
        choose_memory_format(self.model, self.device)
        check_image_processor(self.image_processor)
        name_or_path, revision = self.model.config.name_or_path or "", revision or revision_of_this_code()
        self.onnx_model = AgeGenderOnnxModel(fetch_file(name_or_path, onnx_file, revision)) if onnx_file else None
        if self.onnx_model:
            self.onnx_model.check_answers(self.model.config)
        self._yunet_file = find_file(name_or_path, YUNET_FILE, revision)
        self._yunet = YuNetDetector.load(self._yunet_file) if self._yunet_file else None
        if self._yunet is None:
            logger.warning(f"No {YUNET_FILE} beside the model: OpenCV's cascade finds the faces, which misses more.")
        self._detector(self._preprocess_params.get("detector"))  # fails now and not at the first picture

    def __call__(  # type: ignore[override]  # the base class takes any positional argument, and ignores it
        self, inputs: Any, boxes: Sequence | None = None, **kwargs: Any
    ) -> Any:
        """
        Args:
            inputs: a picture, or a list, generator or dataset of pictures or of rows `{"image": picture, ...}`.
            boxes: x0, y0, x1, y1 in pixels of the upright picture, one a face; for a list of pictures one such list each.
            detect: False takes the whole picture (its largest centred square) as the face crop.
            detector: `"yunet"` or `"haar"`; by default YuNet, and OpenCV's cascade where YuNet's file is missing.
            min_score: drop faces that YuNet detects with a lower score, 0 to 1.
            age_ranges: answer in these ranges: `"0-17, 18+"`, `[[0, 17], [18, 116]]`, or the name of a set in `RANGE_SETS`.
            return_years: add `year_probabilities`, the whole distribution that the ranges are summed from.
            dataset_folder: where the files lie that rows of a dataset may name. Without it a row must hold its picture: whoever
                wrote a dataset may have named any file of this machine, or any address. Give a path or URL of your own
                without a row.
            batch_size: pictures whose faces go through the model together.

        Returns:
            A list with one dict a face, from left to right (given boxes keep their order); for a list of pictures, a list
            of such lists; for a generator or dataset, a generator of them. Plain Python numbers and strings:

            - `box`: [x0, y0, x1, y1], pixels of the upright picture
            - `detection_score`: 0 to 1; None where there is none (cascade, given boxes, `detect=False`)
            - `roll_degrees`: how far the head is turned in the picture, whole degrees clockwise as seen, -180 to 180; None
              where no landmarks were found (some given boxes) or looked for (`detect=False`)
            - `age`: in years; `age_interval`: [low, high], years meant to contain the labelled age for
              `config.interval_coverage` or more of faces like those it was calibrated on
            - `age_range`: the most probable range; `age_ranges`: {range: probability}
            - `gender`: the gender by appearance, or `"unsure"` below `config.gender_threshold`;
              `genders`: {name: probability}
            - `abstained`: None, or why there is no answer: all fields from `age` to `genders` are None then
            - `year_probabilities`, if asked for: `config.max_age + 1` probabilities, one a year

        Raises:
            PictureError: a picture cannot be read.
            AgeGenderError: boxes, ranges or another option cannot be used, or YuNet's file is missing.
        """
        inputs = as_list_or_stream(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs if boxes is None else pair_with_boxes(inputs, boxes), **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model, its preprocessing, this code and YuNet's weights: a folder that loads by itself."""
        super().save_pretrained(save_directory, **kwargs)
        copy_unless_same(self._yunet_file, Path(save_directory, YUNET_FILE))

    def _sanitize_parameters(  # type: ignore[override]  # named parameters, so that an unknown option is an error
        self,
        detect: bool | None = None,
        detector: Literal["yunet", "haar"] | None = None,
        min_score: float | None = None,
        age_ranges: str | Sequence | None = None,
        return_years: bool | None = None,
        dataset_folder: str | os.PathLike[str] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if detector not in (None, "yunet", "haar"):
            raise AgeGenderError(f"Expected detector='yunet' or 'haar'; got {detector!r}.")
        ranges = None if age_ranges is None else parse_age_ranges(age_ranges, self.model.config.max_age)
        preprocess = {"detect": detect, "detector": detector, "min_score": min_score, "dataset_folder": dataset_folder}
        postprocess = {"age_ranges": ranges, "return_years": return_years}
        return _given(preprocess), {}, _given(postprocess)

    # What passes between the three steps is typed here; the base class declares dicts of tensors, hence the ignores.

    def preprocess(  # type: ignore[override]
        self,
        inputs: Any,
        detect: bool = True,
        detector: str | None = None,
        min_score: float = MIN_SCORE,
        dataset_folder: str | os.PathLike[str] | None = None,
    ) -> PreparedFaces:
        """Load one picture or row, or `PictureWithBoxes`, find its faces and align them."""
        inputs, boxes = (inputs.picture, inputs.boxes) if isinstance(inputs, PictureWithBoxes) else (inputs, None)
        if boxes is not None and not detect:
            raise AgeGenderError("Expected boxes, or detect=False for a picture that is one face; got both. Give one.")
        compute_without_lost_threads()
        image_rgb = load_rgb(picture_of(inputs, dataset_folder))
        height, width = image_rgb.shape[:2]
        config = self.model.config
        if not detect:
            faces = [Face(np.array([0.0, 0.0, width, height]))]
            crops = [resize_square(image_rgb, config.image_size)]
        else:
            finder = self._detector(detector)
            if boxes is None:
                faces = finder.detect(image_rgb, min_score)
            else:
                faces = finder.find_landmarks(image_rgb, [Face.from_box(box, (width, height)) for box in boxes])
            crops = [align(image_rgb, face, config.landmarks_xy, config.image_size) for face in faces]
        pixel_values = torch.empty(0, 3, config.image_size, config.image_size)
        if crops:
            pixel_values = self.image_processor(
                crops, do_resize=False, input_data_format="channels_last", return_tensors="pt"
            )["pixel_values"]
        return PreparedFaces(pixel_values, faces, crops, (width, height))

    def forward(self, prepared: PreparedFaces, **forward_params: Any) -> FaceLogits:  # type: ignore[override]
        """Run the model on the faces of one picture."""
        return self.forward_batch([prepared], **forward_params)[0]

    def forward_batch(
        self, prepared: Sequence[PreparedFaces], faces_per_forward: int = FACES_PER_FORWARD
    ) -> list[FaceLogits]:
        """Run the model on the faces of several pictures together, at most `faces_per_forward` at a time."""
        return super().forward(list(prepared), faces_per_forward=faces_per_forward)

    def _forward(  # type: ignore[override]
        self, prepared: list[PreparedFaces], faces_per_forward: int
    ) -> list[FaceLogits]:
        """Tensors are moved to and from the device here: the base class only does so for those in dicts and lists."""
        compute_without_lost_threads()
        config = self.model.config
        age_logits = [torch.empty(0, config.max_age + 1, dtype=torch.float64)]
        gender_logits = [torch.empty(0, len(config.gender_names), dtype=torch.float64)]
        counts = [len(item.faces) for item in prepared]
        if sum(counts):
            network = self.onnx_model or self.model
            for chunk in torch.cat([item.pixel_values for item in prepared]).split(faces_per_forward):
                output = network(chunk.to(self.device, self.dtype))
                # To the CPU first: MPS has no float64 (https://github.com/pytorch/pytorch/issues/122602).
                age_logits.append(output.age_logits.cpu().double())
                gender_logits.append(output.gender_logits.cpu().double())
        per_picture = (torch.cat(logits).split(counts) for logits in (age_logits, gender_logits))
        return [FaceLogits(item, age, gender) for item, age, gender in zip(prepared, *per_picture, strict=True)]

    def postprocess(  # type: ignore[override]
        self, logits: FaceLogits, age_ranges: list[list[int]] | None = None, return_years: bool = False
    ) -> list[dict[str, Any]]:
        """Turn the logits of one picture's faces into the answer that `__call__` describes."""
        config = self.model.config
        age_logits, gender_logits = logits.age_logits.numpy(), logits.gender_logits.numpy()
        predictions = decode_predictions(
            age_logits, gender_logits, config, age_ranges or config.age_ranges, return_years
        )
        answers = []
        for face, prediction in zip(logits.prepared.faces, predictions, strict=True):
            abstained = why_no_answer(face, config.min_face_pixels)
            found = describe_face(face, logits.prepared.size_wh)
            answers.append(
                {**found, **(dict.fromkeys(prediction) if abstained else prediction), "abstained": abstained}
            )
        return answers

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[list[dict[str, Any]]]:
        """Batch by face: pictures hold any number of faces, and the base class would pad them to one shape.

        See `pad_collate_fn` in https://github.com/huggingface/transformers/blob/main/src/transformers/pipelines/base.py
        """
        dataset: PipelineIterator | PipelineDataset
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
        self, prepared: Sequence[PreparedFaces], faces_per_forward: int = FACES_PER_FORWARD, **postprocess_params: Any
    ) -> list[list[dict[str, Any]]]:
        """`forward_batch` and `postprocess`: one list of answers a picture.

        Args:
            postprocess_params: replace the options this pipeline was made with.
        """
        options = self._postprocess_params | postprocess_params
        return [self.postprocess(logits, **options) for logits in self.forward_batch(prepared, faces_per_forward)]

    @property
    def age_ranges(self) -> list[list[int]]:
        """The ranges of the answers: those this pipeline was made with, else the model's own."""
        return self._postprocess_params.get("age_ranges") or self.model.config.age_ranges

    @cached_property
    def _cascade(self) -> CascadeDetector:
        return CascadeDetector(self.model.config.cascade_crop or CASCADE_CROP)

    def _detector(self, name: str | None) -> YuNetDetector | CascadeDetector:
        if name == "yunet" and self._yunet is None:
            raise ModelFileError(f"No {YUNET_FILE} beside the model. Put it there, or use detector='haar'.")
        return self._cascade if name == "haar" or self._yunet is None else self._yunet


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


# AutoModel and not AgeGenderModel: config.json stores the class's name, which `pipeline` looks up in transformers. The
# registry's own `register_pipeline` warns when a program loads two revisions of this file.
# https://github.com/huggingface/transformers/blob/main/src/transformers/pipelines/base.py
AgeGenderPipeline._registered_impl = {TASK: {"impl": AgeGenderPipeline, "pt": (AutoModel,)}}
PIPELINE_REGISTRY.supported_tasks.setdefault(TASK, AgeGenderPipeline._registered_impl[TASK])
