"""From which checkpoint a run resumes: the last one that was written completely; and what may not be overwritten."""

import json
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import SaveStrategy
from transformers.training_args import OptimizerNames

from model.errors import AgeGenderError
from model.model_files import ModelWeightsError
from model_card.requirements import CARD
from model_card.run_record import RUN_RECORD
from trainer.recipe import RecipeError


STATE = "trainer_state.json"  # the Trainer writes it last: a checkpoint that holds it is complete
SECONDS_TO_APPEAR = 30  # until other machines see a new file on a network file system


class CheckpointError(AgeGenderError):
    """A checkpoint or a result cannot be read or written."""


class TrainingDiverged(AgeGenderError):
    """The loss or a weight is NaN or Inf."""


def check_room(folder: Path, weights_bytes: int, training_args: TrainingArguments, *, muon: bool, ema: bool) -> None:
    """Before training: compare the free space with two checkpoints, the best and the newest, and the trained model.

    Args:
        folder: holds the run's checkpoints. Those that are there already are not counted again.
        weights_bytes: size of the model's weights; AdamW keeps two moments of the same size beside them, Muon one.
        muon: as in `trainer.optimizer.LearningArguments`.
        ema: each checkpoint also holds the average of the weights.

    Raises:
        CheckpointError: there is less room.
    """
    is_adamw = OptimizerNames(training_args.optim).value.startswith("adamw_torch")
    moments = 1 if muon else 2 if is_adamw else 0
    checkpoint = weights_bytes * (1 + ema + (0 if training_args.save_only_model else moments))
    saves = SaveStrategy(training_args.save_strategy) != SaveStrategy.NO
    missing = max(2 - len(find_checkpoints(folder)), 1) if saves else 0
    needed = missing * checkpoint + weights_bytes
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise CheckpointError(
            f"{folder} lies on a disk with {free / 1e6:,.1f} MB free. The run needs at least {needed / 1e6:,.1f} MB: "
            f"{missing} x {checkpoint / 1e6:,.1f} for checkpoints and {weights_bytes / 1e6:,.1f} for the trained model. Make "
            "room, or choose another --output_dir."
        )


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder by their step, incomplete ones included."""
    steps = {
        path: int(match[1])
        for path in folder.glob("checkpoint-*")
        if path.is_dir() and (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    }
    return sorted(steps, key=lambda path: steps[path])


def is_whole(checkpoint: Path) -> bool:
    """Whether the checkpoint is complete: a process that was killed while writing it leaves no state, or part of one."""
    try:
        json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError):
        return False
    return True


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step; None where there is none."""
    return next((path for path in reversed(find_checkpoints(folder)) if is_whole(path)), None)


def resume_hint(folder: Path) -> str:
    """A sentence for error messages: from which checkpoint in `folder` the run can resume."""
    last = last_whole_checkpoint(folder)
    return f"The last whole checkpoint is {last}." if last else "There is no checkpoint yet."


def weights_in_checkpoint(checkpoint: str, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights that a checkpoint holds, by the names that they have in `model`.

    Raises:
        CheckpointError: the checkpoint lacks weights of the model, or has others.
    """
    try:
        return type(model).from_pretrained(checkpoint, config=model.config).state_dict()
    except ModelWeightsError as error:
        raise CheckpointError(
            f"{checkpoint} does not fit the recipe. {error} Resume with the recipe that wrote it."
        ) from error


def is_trained(output_dir: Path, training_args: TrainingArguments, *, report: bool) -> bool:
    """Whether an earlier start has trained the run, so that this one only reports or pushes it.

    Args:
        output_dir: the run's result.
        report: whether this start should write the report.

    Raises:
        RecipeError: the run is trained, and either nothing is left to do or `resume_from_checkpoint` is not "true".
    """
    if not (output_dir / RUN_RECORD).exists():
        return False
    unreported = report and not (output_dir / CARD).exists()  # the card is written last
    resumes = (training_args.resume_from_checkpoint or "false").lower() == "true"
    if resumes and (unreported or training_args.push_to_hub):
        return True
    if unreported:
        raise RecipeError(
            f"{output_dir} holds a trained model without its report. Add --resume_from_checkpoint true to write it, "
            "choose another --output_dir, or remove it first."
        )
    raise RecipeError(f"{output_dir} holds a finished run. Choose another --output_dir, or remove it first.")


def checkpoint_to_resume(folder: Path, output_dir: Path, training_args: TrainingArguments) -> str | None:
    """The checkpoint that all processes resume from; None for a new run. Every process must call this.

    Args:
        folder: holds the run's checkpoints.
        output_dir: where the result goes.
        training_args: their `resume_from_checkpoint` is "true" for the last complete checkpoint in `folder`, "false", or
            the path of a checkpoint.

    Raises:
        RecipeError: an unfinished run or other files would be overwritten; the checkpoint is incomplete, or lacks the
            optimizer's state; or the processes do not see the same folder.
    """
    resume_from = _find_checkpoint(folder, output_dir, training_args.resume_from_checkpoint)
    _check_shared(folder, resume_from, training_args)
    return resume_from


def _find_checkpoint(folder: Path, output_dir: Path, resume: str | None) -> str | None:
    resume = resume or "false"
    started = bool(find_checkpoints(folder))
    if started and resume.lower() == "false":
        raise RecipeError(
            f"{folder} holds an unfinished run. Add --resume_from_checkpoint true to resume it, or remove the folder."
        )
    # a started run may have been killed while it saved its result, which is then saved again
    if output_dir.exists() and not started and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise RecipeError(f"{output_dir} is not empty. Choose another --output_dir, or empty it first.")
    last = last_whole_checkpoint(folder)
    if resume.lower() in ("true", "false"):
        return _with_optimizer(last) if last else None
    if not is_whole(Path(resume)):
        raise RecipeError(
            f"No checkpoint at {resume}, or none that was written whole: expected a folder such as "
            f"{folder}/checkpoint-100 with a {STATE}."
        )
    if last and _step(last) > _step(Path(resume)):  # the next start would resume from `last`
        raise RecipeError(
            f"{folder} holds {last.name}, which is further than {resume}. Remove it to go back, or choose another "
            "--output_dir."
        )
    return _with_optimizer(Path(resume))


def _with_optimizer(checkpoint: Path) -> str:
    """The path of a checkpoint that holds the optimizer's state."""
    if not any(checkpoint.glob("optimizer*")):  # a file, or under FSDP a folder
        raise RecipeError(
            f"{checkpoint} holds the weights without the optimizer (save_only_model: true): training cannot resume from "
            "it. Remove the run's checkpoints, or choose another --output_dir, to start again."
        )
    return str(checkpoint)


def _step(checkpoint: Path) -> int:
    return json.loads((checkpoint / STATE).read_text())["global_step"]


def _check_shared(folder: Path, resume_from: str | None, training_args: TrainingArguments) -> None:
    """Check that all processes see the same folder of checkpoints, and resume from the same one.

    A machine with a folder of its own would not find the best model at the end, or would resume alone.
    """
    if training_args.world_size == 1:
        return
    marker, mark = folder / ".shared", uuid.uuid4().hex
    if training_args.process_index == 0:
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(mark)
    [mark, *_] = gather_object([mark])
    sees = training_args.save_on_each_node or _appears(marker, mark)
    found = gather_object([(sees, resume_from)])
    if training_args.process_index == 0:
        marker.unlink()
    blind = [str(process) for process, (sees, _) in enumerate(found) if not sees]
    if blind:
        raise RecipeError(
            f"{folder} is not the same folder in all processes: {', '.join(blind)} of {len(found)} do not see what "
            "process 0 writes there. Give an --output_dir on a disk that all machines share."
        )
    if len({checkpoint for _, checkpoint in found}) > 1:
        raise RecipeError(
            f"The processes would resume from different checkpoints: {', '.join(str(one) for _, one in found)}. Give an "
            "--output_dir on a disk that all machines share."
        )


def _appears(marker: Path, mark: str) -> bool:
    for _ in range(SECONDS_TO_APPEAR):
        if marker.exists() and marker.read_text() == mark:
            return True
        time.sleep(1)
    return False


@contextmanager
def full_disk_explained(output_dir: Path, checkpoint_dir: Path) -> Iterator[None]:
    """Around writing the result to `output_dir`.

    Raises:
        CheckpointError: it could not be written; the message names the checkpoint to resume from.
    """
    try:
        yield
    except AgeGenderError:  # a file that is damaged, say
        raise
    except (OSError, RuntimeError, SafetensorError) as error:  # Python, torch and safetensors on a full disk
        raise CheckpointError(
            f"The trained model could not be written to {output_dir}: {error}. Is the disk full? "
            f"{resume_hint(checkpoint_dir)} Make room, and add --resume_from_checkpoint true."
        ) from error
