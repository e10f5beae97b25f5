"""Do all processes of a run read and write the same checkpoints? If not, say so before any work is done."""

import time
import uuid
from pathlib import Path

from accelerate.utils import gather_object
from transformers import TrainingArguments

from trainer.recipe import RecipeError


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
