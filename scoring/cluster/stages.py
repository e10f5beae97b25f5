"""What the workers of a cluster do with one part of the input: read and detect; run the model; write.

A part passes from stage to stage as one row {part, payload, failure}: Ray may cut a block of rows in two, but no row. What
stops a part, such as a full disk, travels on as `failure`, since an exception would only reach Ray's log.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import pyarrow as pa
import ray
from huggingface_hub import snapshot_download

from model.model_files import one_line
from scoring.cluster.run_folder import OutputFolder, read_pictures, read_rows
from scoring.output import OutputCounts, answer_rows, count_rows
from scoring.run import ScoringOptions, load_scorer
from scoring.scorer import Picture, Scorer


Row = dict[str, Any]  # of Ray Data
TRIES = 2  # of a part whose process ends, and of a picture alone
LOST = "the processes that worked on it ended"


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model, which reach the workers through Ray: they need neither a shared disk nor the Hub for it."""

    options: ScoringOptions
    files: dict[str, bytes]

    @classmethod
    def of(cls, options: ScoringOptions) -> "ModelFiles":
        """
        Raises:
            OSError: they cannot be read.
        """
        folder = Path(options.model)
        if not folder.is_dir():
            folder = Path(snapshot_download(options.model, revision=options.model_revision))
        wanted = [path for path in folder.iterdir() if path.is_file()]
        if options.onnx_file:
            wanted.append(folder / options.onnx_file)
        return cls(options, {path.relative_to(folder).as_posix(): path.read_bytes() for path in wanted})

    def load(self, device: str) -> Scorer:
        with TemporaryDirectory(prefix="model-") as folder:
            for name, content in self.files.items():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            own = replace(self.options, model=folder, model_revision=None, device=device, workers=1)
            return load_scorer(own)[1]


@dataclass(frozen=True)
class Job:
    """What every stage needs to know.

    model_files: reference to `ModelFiles` in Ray's object store.
    schema: of the rows that are written.
    crashed: {picture: problem} of those that are not opened again.
    """

    model_files: "ray.ObjectRef[ModelFiles]"
    output: OutputFolder
    schema: pa.Schema
    image_column: str
    crashed: Mapping[int, str] = field(default_factory=dict)

    def read(self, part: int) -> Iterator[Picture]:
        """The pictures of a part with their contents, one at a time, those that crashed last."""
        rows = read_rows(self.output.work_list, part)
        crashed = [row for row in rows if row["picture"] in self.crashed]
        yield from read_pictures([row for row in rows if row not in crashed], self.image_column)
        for row in crashed:
            yield Picture(row["picture"], row["name"], None, None, self.crashed[row["picture"]])


@cache
def scorer_on(device: str, model_files: "ray.ObjectRef[ModelFiles]") -> Scorer:
    """Loaded once a process."""
    cv2.setNumThreads(1)  # Ray runs one process for each core
    return ray.get(model_files).load(device)


def prepare_part(row: Row, job: Job, attempts: Any) -> Row:
    """Read the pictures of a part, decode them and find their faces; give it back as `LOST` after `TRIES` attempts.

    Args:
        attempts: actor of `scoring.cluster.attempts.Attempts`.
    """

    def prepare() -> Row:
        scorer = scorer_on("cpu", job.model_files)
        prepared = [scorer.prepare(picture) for picture in job.read(row["part"])]
        return {"payload": pickle.dumps(sorted(prepared, key=lambda item: item.picture.index))}

    return _pass_on(row, prepare, "prepare", attempts)


class AnswerPart:
    """Run the model on the faces of a part; an actor keeps it loaded, and a GPU for itself if `device` is "cuda"."""

    def __init__(self, job: Job, device: str, attempts: Any):
        self._job, self._scorer, self._attempts = job, scorer_on(device, job.model_files), attempts

    def __call__(self, row: Row) -> Row:
        def answer() -> Row:
            prepared = pickle.loads(row["payload"])  # noqa: S301  # from the stage before
            rows = [face for scored in self._scorer.answer(prepared) for face in answer_rows(scored)]
            return {"payload": _as_bytes(pa.Table.from_pylist(rows, self._job.schema))}

        return _pass_on(row, answer, "answer", self._attempts)


def write_part(row: Row, job: Job, attempts: Any) -> Row:
    """Write the answers of a part, and count them; see `prepare_part`."""

    def write() -> Row:
        table = pa.ipc.open_stream(row["payload"]).read_all()
        job.output.write(row["part"], table)
        return asdict(count_rows(table))

    return asdict(OutputCounts(0, 0, 0)) | _pass_on(row, write, "write", attempts)


def try_picture(row: dict[str, Any], job: Job) -> None:
    """Prepare one picture of the work list alone, to see whether it ends the process."""
    scorer = scorer_on("cpu", job.model_files)
    for picture in read_pictures([row], job.image_column):
        scorer.prepare(picture)


def _pass_on(row: Row, work: Callable[[], Row], stage: str, attempts: Any) -> Row:
    """What `work` makes of a part, or the failure of this stage or an earlier one."""
    done: Row = {"part": row["part"], "payload": b"", "failure": row["failure"]}
    if row["failure"]:
        return done
    if ray.get(attempts.begin.remote((stage, row["part"]))) > TRIES:
        return done | {"failure": LOST}
    try:
        return done | work()
    except Exception as error:
        return done | {"failure": one_line(error)}


def _as_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()
