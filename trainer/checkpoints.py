"""Which checkpoint a run goes on from: the last one that was written whole."""

import json
import re
from pathlib import Path

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
