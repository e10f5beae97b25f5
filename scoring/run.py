"""One scoring run: what `python -m scripts.predict` does with its options."""

import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import torch
from tqdm.auto import tqdm

from model.configuration_age_gender import age_range_label
from model.errors import AgeGenderError
from model.model_files import load_image_processor
from model.modeling_age_gender import AgeGenderModel
from model_card.output_files import only_writer
from scoring.inputs import InputSummary, all_entries, open_sources, report_skipped
from scoring.output import (
    AGAIN,
    OUTPUT_SUFFIXES,
    OutputCounts,
    OutputError,
    Parts,
    answer_rows,
    table_schema,
    write_json_lines,
)
from scoring.scorer import Scorer, read_entries
from scoring.sources import Entry, Source
from scoring.storage import StoreFaultError
from trainer.devices import choose_device, emulation_warning, has_bf16, keep_freed_memory


logger = logging.getLogger(__name__)

# Faces that go through the model together. On a CPU more take longer: their features do not fit into its caches.
FACES_ON_GPU, FACES_ON_CPU = 64, 16


class OptionError(AgeGenderError):
    """The options of a run do not fit together, or are out of range."""


@dataclass(frozen=True)
class ScoringOptions:
    """The options of `python -m scripts.predict`, where `--help` explains them.

    Raises:
        OptionError: numbers below 1, or options that exclude each other.
        OutputError: the output has another suffix than `OUTPUT_SUFFIXES`; with `ray` it is a folder.
    """

    inputs: Sequence[str]
    output: str | None = None
    model: str = "model"
    model_revision: str | None = None
    crops: bool = False
    detector: str | None = None
    age_ranges: str | None = None
    image_column: str = "image"
    dataset_revision: str | None = None
    frames_per_second: float = 1.0
    device: str = "auto"
    onnx_file: str | None = None
    bf16: bool | None = None
    batch_size: int | None = None
    workers: int | None = None
    part_size: int = 1000
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.ray and not self.output:
            raise OptionError("Expected --output FOLDER with --ray: the machines write their answers there.")
        if not self.ray and self.output and Path(self.output).suffix not in OUTPUT_SUFFIXES:
            raise OutputError(f"Expected --output to end in {', '.join(OUTPUT_SUFFIXES)}; got {self.output}.")
        given = (self.batch_size, self.workers, self.part_size)
        if min(number for number in given if number is not None) < 1:
            raise OptionError("Expected --batch-size, --part-size and --workers of 1 or more.")
        if self.bf16 and self.onnx_file:
            raise OptionError("Expected --bf16 or --onnx-file; got both. An ONNX file has its own precision.")

    def open_sources(self) -> list[Source]:
        return open_sources(
            self.inputs,
            image_column=self.image_column,
            revision=self.dataset_revision,
            frames_per_second=self.frames_per_second,
            output=self.output,
        )

    def computes_in_bf16(self, device: str | torch.device) -> bool:
        """As `bf16` says; by default where `device`, a CPU or a GPU of CUDA, has instructions for it."""
        if self.bf16 is not None:
            return self.bf16
        return not self.onnx_file and torch.device(device).type in ("cpu", "cuda") and has_bf16(device)

    @property
    def answer_options(self) -> dict[str, Any]:
        """What the pipeline is told about every picture."""
        return {"detect": not self.crops, "detector": self.detector, "age_ranges": self.age_ranges}


def prepare_process(options: ScoringOptions) -> None:
    """Suit this process, until it ends, to a scoring run on this machine alone.

    Raises:
        DeviceError: the device is not there.
    """
    cv2.setNumThreads(1)  # the workers share the pictures: OpenCV's own threads would compete with them
    if choose_device(options.device).type == "cpu":
        keep_freed_memory()


def score_to_file(options: ScoringOptions) -> OutputCounts | None:
    """Score the input into `options.output`, or resume the run that was stopped; None where it is complete already.

    Raises:
        AgeGenderError: an option, the model, the input or the output cannot be used; or another process writes it.
    """
    assert options.output is not None
    output = Path(options.output)
    with only_writer(output, "--output"):
        return _score_to_file(options, output)


def _score_to_file(options: ScoringOptions, output: Path) -> OutputCounts | None:
    sources = options.open_sources()
    model, scorer = load_scorer(options)
    parts = Parts(output, answer_schema(model, scorer))
    if parts.is_finished():
        parts.clear()
        return None
    if output.exists():
        raise OutputError(f"{output} exists already. Choose another --output, or remove it.")
    settings = settings_of(options, model, scorer)
    try:
        return score_in_parts(scorer, sources, parts, settings, part_size=options.part_size)
    except StoreFaultError as error:
        raise StoreFaultError(f"{error} {AGAIN}") from error


def print_rows(options: ScoringOptions) -> None:
    """Score the input and print each row as a line of JSON.

    Raises:
        AgeGenderError: an option, the model or the input cannot be used.
    """
    sources = options.open_sources()
    _, scorer = load_scorer(options)
    summary = InputSummary.of(sources)
    scored = scorer.score(read_entries(all_entries(sources)))
    with tqdm(scored, total=summary.pictures, unit=" pictures") as progress:  # its bar ends before an error is told
        write_json_lines((row for scored in progress for row in answer_rows(scored)), sys.stdout)
    report_skipped(summary.skipped)


def load_scorer(options: ScoringOptions) -> tuple[AgeGenderModel, Scorer]:
    """
    Raises:
        DeviceError: the device is not there.
        ModelFileError: the model, or a file of it, cannot be read.
        AgeGenderError: the pipeline cannot use an option.
    """
    device = choose_device(options.device)
    bf16 = options.computes_in_bf16(device)
    revision = options.model_revision or "main"
    model = AgeGenderModel.from_pretrained(
        options.model, revision=revision, dtype=torch.bfloat16 if bf16 else torch.float32
    )
    processor = load_image_processor(options.model, revision)
    scorer = Scorer(
        model,
        processor,
        device=device,
        revision=options.model_revision,
        onnx_file=options.onnx_file,
        batch_size=options.batch_size or (FACES_ON_CPU if device.type == "cpu" else FACES_ON_GPU),
        workers=options.workers,
        **options.answer_options,
    )
    is_int8 = "int8" in Path(options.onnx_file or "").name
    warning = emulation_warning(device, bf16=bf16, int8=is_int8)
    if warning:
        logger.warning(warning)
    return model, scorer


def settings_of(options: ScoringOptions, model: AgeGenderModel, scorer: Scorer) -> dict[str, Any]:
    """What the answers depend on beside the input."""
    return {
        "model": weights_digest(model),
        "configuration": model.config.to_json_string(),
        "bf16": model.dtype == torch.bfloat16,
        "onnx_file": scorer.onnx_sha256,
        **options.answer_options,
    }


def answer_schema(model: AgeGenderModel, scorer: Scorer) -> pa.Schema:
    """The schema of the rows that `scorer` answers."""
    labels = [age_range_label(low, high, model.config.max_age) for low, high in scorer.age_ranges]
    return table_schema(labels, model.config.gender_names)


def score_in_parts(
    scorer: Scorer, sources: Sequence[Source], parts: Parts, settings: dict[str, Any], *, part_size: int
) -> OutputCounts:
    """Score the parts that are not written yet, `part_size` pictures each, and join all parts into the output.

    Args:
        settings: what the answers depend on; a run can only be resumed with the same settings and the same input.

    Raises:
        InputError: there is no picture.
        OutputError: the parts belong to another run, or cannot be written.
    """
    summary = InputSummary.of(sources)
    parts.begin(settings | {"pictures per part": part_size, "input": summary.signature})
    done = parts.done()
    count = 0

    def counted() -> Iterator[Entry]:  # of videos the summary holds an estimate
        nonlocal count
        for entry in all_entries(sources):
            count += 1
            yield entry

    def is_wanted(index: int) -> bool:
        return index // part_size not in done

    scored = scorer.score(read_entries(counted(), is_wanted))
    wanted = sum(is_wanted(index) for index in range(summary.pictures))
    with tqdm(
        scored, total=wanted, desc="Scoring", unit=" pictures"
    ) as progress:  # its bar ends before an error is told
        for part, pictures in groupby(progress, key=lambda scored: scored.index // part_size):
            parts.write(part, (row for scored in pictures for row in answer_rows(scored)))
    counts = parts.merge(-(-count // part_size))
    report_skipped(summary.skipped)
    return counts


def weights_digest(model: torch.nn.Module) -> str:
    """A hash of all weights: it changes when a model is trained again into the same folder."""
    total = hashlib.sha256()
    for name, weights in model.state_dict().items():
        total.update(name.encode())
        total.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
