"""One scoring run on a cluster: what `python -m scripts.predict --ray ADDRESS` does.

`score_on_cluster` reads from top to bottom: check, list the pictures, let Ray Data stream the parts through the stages, and
look at those again in which a worker was lost for good.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from glob import has_magic
from typing import Any

import ray
from pyarrow.fs import FileType
from ray.data import ActorPoolStrategy, ExecutionResources
from ray.exceptions import OutOfMemoryError, RayError, WorkerCrashedError
from tqdm.auto import tqdm

from cluster import ClusterError
from cluster.machines import ask_machines, check_machines, check_resources, cluster
from model.errors import AgeGenderError
from model.model_files import one_line
from scoring.cluster.attempts import Attempts
from scoring.cluster.run_folder import OutputFolder, check_can_be_shared, read_rows, write_work_list
from scoring.cluster.stages import LOST, TRIES, AnswerPart, Job, ModelFiles, prepare_part, try_picture, write_part
from scoring.inputs import no_pictures, report_skipped
from scoring.output import AGAIN, OutputError
from scoring.run import ScoringOptions, answer_schema, load_scorer, settings_of
from scoring.sources import Source
from scoring.storage import Place, is_remote


# Shares of a CPU, which add up to one: each stage can then run on each CPU, and the slowest takes most of its time. Others
# that let more processes run at a time were slower on two cores (docs/scale.md).
PREPARE_CPUS, ANSWER_CPUS, WRITE_CPUS = 0.5, 0.4, 0.1
CRASHED = f"The process that read this picture ended without an answer, {TRIES} times: it is not opened again."


@dataclass(frozen=True)
class ClusterCounts:
    """pictures: of the whole run. scored, faces, errors: of this start; errors are pictures that could not be used."""

    pictures: int
    scored: int
    faces: int
    errors: int


def score_on_cluster(options: ScoringOptions) -> ClusterCounts:
    """Score the input into the folder `options.output`, or resume the run that was stopped.

    Raises:
        AgeGenderError: an option, the model, the input, the output or the cluster cannot be used.
    """
    assert options.ray is not None
    assert options.output is not None
    output = OutputFolder(_everywhere(options.output))
    sources = [] if output.holds_run() else options.open_sources()
    check_can_be_shared(sources)  # before a cluster is started or asked
    with cluster(options.ray):
        device = _device(options)
        check_machines()  # before the pictures are listed, which may take long
        options = replace(options, bf16=_computes_in_bf16(options, device))
        model, scorer = load_scorer(replace(options, device="cpu"))
        settings = {
            **settings_of(options, model, scorer),
            "inputs": list(options.inputs),
            "image column": options.image_column,
            "pictures per part": options.part_size,
        }
        pictures = output.begin(settings, lambda: _list_pictures(sources, output, options.part_size))
        check_machines(partial(_what_is_missing, [output.settings.address, *_inputs_to_see(options)]))
        job = Job(ray.put(ModelFiles.of(options)), output, answer_schema(model, scorer), options.image_column)
        parts = range(-(-pictures // options.part_size))
        counts = _score_parts(job, _missing(parts, output), device, options.workers)
        lost = _missing(parts, output)
        if lost:
            crashed = _find_crashing_pictures(job, lost)
            counts += _score_parts(replace(job, crashed=crashed), lost, device, options.workers)
        lost = _missing(parts, output)
        if lost:
            raise OutputError(
                f"{len(lost):,} parts of {options.output} are missing, since machines or workers were lost again and again. "
                "Start the same command again: it resumes."
            )
    return ClusterCounts(pictures, counts["pictures"], counts["faces"], counts["errors"])


def _device(options: ScoringOptions) -> str:
    """
    Raises:
        ClusterError: the cluster has too few CPUs, or no GPU where one is asked for.
    """
    gpus = ray.cluster_resources().get("GPU", 0)
    device = "cuda" if options.device == "cuda" or (options.device == "auto" and gpus) else "cpu"
    check_resources({"CPU": options.workers or 1, **({"GPU": 1} if device == "cuda" else {})})
    return device


def _computes_in_bf16(options: ScoringOptions, device: str) -> bool:
    """By default on CPUs, where those of all machines have instructions for it: no answer then depends on the machine.

    Ray hides the GPUs from a task that asks for none, so that they are not asked.
    """
    if options.bf16 is not None or device == "cuda":
        return bool(options.bf16)
    return all(answer for _, answer in ask_machines(partial(options.computes_in_bf16, device)))


def _everywhere(name: str) -> str:
    """A path as all machines know it: the workers run in other folders."""
    return name if is_remote(name) else os.path.abspath(name)


def _inputs_to_see(options: ScoringOptions) -> list[str]:
    """The inputs that each machine must see: what is on a disk here, and stores; patterns and URLs are not looked for."""
    return [
        _everywhere(name)
        for name in options.inputs
        if os.path.exists(name) or (is_remote(name) and not has_magic(name))
    ]


def _list_pictures(sources: Sequence[Source], output: OutputFolder, part_size: int) -> int:
    pictures, skipped = write_work_list(sources, output.work_list, part_size)
    if not pictures:
        raise no_pictures(skipped)
    report_skipped(skipped)
    return pictures


def _what_is_missing(addresses: Sequence[str]) -> str:
    """On a machine of the cluster: which of these a run cannot read there, "" if none."""
    for address in addresses:
        try:
            if Place(address).info().type == FileType.NotFound:
                return f"{address} is not there. Put it on a disk that all machines share, or in a store."
        except AgeGenderError as error:
            return str(error)
    return ""


def _missing(parts: range, output: OutputFolder) -> list[int]:
    done = output.done()
    return [part for part in parts if part not in done]


def _score_parts(job: Job, parts: Sequence[int], device: str, workers: int | None) -> Counter[str]:
    """Stream the parts through the stages. One whose process ends `TRIES` times is left out.

    Args:
        workers: CPUs that it uses at most; default: all.

    Raises:
        OutputError: a part failed, as on a full disk.
        ClusterError: the cluster itself did, or the model cannot be loaded on it.
    """
    counts: Counter[str] = Counter()
    if not parts:
        return counts
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = ray.data.from_items([_row(part) for part in parts], override_num_blocks=len(parts))
    rows.context.enable_progress_bars = False
    rows.context.execution_options.resource_limits = ExecutionResources(cpu=workers)
    attempts = Attempts.beside_this_process()
    scored = (
        rows.map(partial(prepare_part, job=job, attempts=attempts), num_cpus=PREPARE_CPUS)
        .map(
            AnswerPart,  # type: ignore[arg-type]  # Ray makes the actors, and calls them
            fn_constructor_args=(job, device, attempts),
            num_cpus=ANSWER_CPUS,
            num_gpus=1 if device == "cuda" else None,
            compute=ActorPoolStrategy(min_size=1, max_size=workers),
        )
        .map(partial(write_part, job=job, attempts=attempts), num_cpus=WRITE_CPUS)
    )
    try:
        with tqdm(scored.iter_rows(), total=len(parts), desc="Scoring", unit=" parts") as progress:
            for row in progress:
                if row["failure"] == LOST:
                    continue
                if row["failure"]:
                    raise OutputError(f"{job.output.address}: {row['failure']} {AGAIN}")
                counts.update({name: row[name] for name in ("pictures", "faces", "errors")})
    except RayError as error:
        raise ClusterError(f"The cluster ended the work: {one_line(error)} {AGAIN}") from error
    return counts


def _row(part: int) -> dict[str, Any]:
    return {"part": part, "payload": b"", "failure": ""}


def _find_crashing_pictures(job: Job, parts: Iterable[int]) -> dict[int, str]:
    """{picture: problem} of those that end the process which reads them, tried one by one."""
    alone = ray.remote(num_cpus=PREPARE_CPUS, max_retries=TRIES - 1)(try_picture)
    crashed = {}
    for part in parts:
        tried = {row["picture"]: alone.remote(row, job) for row in read_rows(job.output.work_list, part)}
        for picture, done in tried.items():
            try:
                ray.get(done)
            except (WorkerCrashedError, OutOfMemoryError):
                crashed[picture] = CRASHED
            except RayError:  # a machine was lost, say: the picture is tried again with its part
                continue
    return crashed
