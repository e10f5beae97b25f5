"""Which checkpoint a run goes on from: the last one that was written whole."""

import json
import re
import time
import uuid
from pathlib import Path

from accelerate.utils import gather_object
from transformers import TrainingArguments

from trainer.recipe import RecipeError
from trainer.run_record import RUN_RECORD


STATE = "trainer_state.json"  # the Trainer writes it last
CARD = "README.md"  # written last: the run is reported


class CheckpointError(ValueError):
    """A checkpoint cannot be used or written; the message says which and why."""


class TrainingDiverged(ValueError):
    """The loss or the weights are no numbers any more; the message says at which step."""


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, whole or not, by their step."""
    steps = {
        path: re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.glob("checkpoint-*") if path.is_dir()
    }
    return sorted((path for path, match in steps.items() if match), key=lambda path: int(steps[path][1]))


def is_whole(checkpoint: Path) -> bool:
    """Whether everything was written: a process that was killed while it wrote leaves no state, or half of one."""
    try:
        json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError):
        return False
    return True


def last_whole_checkpoint(folder: Path) -> Path | None:
    return next((path for path in reversed(find_checkpoints(folder)) if is_whole(path)), None)


def way_back(folder: Path) -> str:
    """A sentence for errors: where the run whose checkpoints `folder` holds can go on from."""
    last = last_whole_checkpoint(folder)
    return f"The last whole checkpoint is {last}." if last else "There is no checkpoint yet."


def is_trained(output_dir: Path, resume: str | None, *, report: bool, push: bool) -> bool:
    """Whether the run has been trained and goes on with what follows: `report` and `push` say what is asked for.

    Raises:
        RecipeError: it has been trained, and nothing is left to do, or going on was not asked for.
    """
    if not (output_dir / RUN_RECORD).exists():
        return False
    unreported = report and not (output_dir / CARD).exists()
    if (resume or "false").lower() == "true" and (unreported or push):
        return True
    if unreported:
        raise RecipeError(
            f"{output_dir} holds a trained model without its report. Add --resume_from_checkpoint true to write it, "
            "choose another --output_dir, or remove it first."
        )
    raise RecipeError(f"{output_dir} holds a finished run. Choose another --output_dir, or remove it first.")


def checkpoint_to_resume(folder: Path, output_dir: Path, resume: str | None) -> str | None:
    """The checkpoint to go on from, if asked to: None for a start from the beginning.

    Args:
        folder: holds the run's checkpoints.
        output_dir: where its result goes.
        resume: "true", "false", or the path of a checkpoint.

    Raises:
        RecipeError: there is work in the way that would be lost, nothing whole at the path to resume from, or no
            optimizer's state in it.
    """
    resume = resume or "false"
    started = bool(find_checkpoints(folder))
    if started and resume.lower() == "false":
        raise RecipeError(
            f"{folder} holds an unfinished run. Add --resume_from_checkpoint true to go on with it, or remove the folder."
        )
    # what a run that was killed while it saved its result left there may be overwritten, anything else may not
    if output_dir.exists() and not started and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise RecipeError(f"{output_dir} is not empty. Choose another --output_dir, or empty it first.")
    last = last_whole_checkpoint(folder)
    if resume.lower() in ("true", "false"):
        return last and _with_optimizer(last)
    if not is_whole(Path(resume)):
        raise RecipeError(
            f"No checkpoint at {resume}, or none that was written whole: expected a folder such as "
            f"{folder}/checkpoint-100 with a {STATE}."
        )
    if last and _step(last) > _step(Path(resume)):  # which a later start would take for this run's
        raise RecipeError(
            f"{folder} holds {last.name}, which is further than {resume}. Remove it to go back, or choose another "
            "--output_dir."
        )
    return _with_optimizer(Path(resume))


def _with_optimizer(checkpoint: Path) -> str:
    """The path, of a checkpoint that training can go on from: without an optimizer's state it would begin a new one."""
    if not any(checkpoint.glob("optimizer*")):  # a file, or under FSDP a folder
        raise RecipeError(
            f"{checkpoint} holds the weights without the optimizer (save_only_model: true): training cannot go on from "
            "it. Remove the run's checkpoints, or choose another --output_dir, to begin again."
        )
    return str(checkpoint)


def _step(checkpoint: Path) -> int:
    return json.loads((checkpoint / STATE).read_text())["global_step"]


SECONDS_TO_APPEAR = 30  # of a new file, on the other machines of a network's file system


def check_shared(folder: Path, resume_from: str | None, training_args: TrainingArguments) -> None:
    """To be called in every process. With a folder of its own a machine finds no best model at the end, or resumes alone.

    Args:
        folder: holds the run's checkpoints.
        resume_from: the checkpoint that this process would go on from.

    Raises:
        RecipeError: a process sees another folder, or would go on from another checkpoint.
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
    apart = [str(process) for process, (sees, _) in enumerate(found) if not sees]
    if apart:
        raise RecipeError(
            f"{folder} is not the same folder in all processes: {', '.join(apart)} of {len(found)} do not see what "
            "process 0 writes there. Give an --output_dir on a disk that all machines share."
        )
    if len({checkpoint for _, checkpoint in found}) > 1:
        raise RecipeError(
            f"The processes would go on from different checkpoints: {', '.join(str(one) for _, one in found)}. Give an "
            "--output_dir on a disk that all machines share."
        )


def _appears(marker: Path, mark: str) -> bool:
    for _ in range(SECONDS_TO_APPEAR):
        if marker.exists() and marker.read_text() == mark:
            return True
        time.sleep(1)
    return False
