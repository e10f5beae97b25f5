"""What an experiment was begun with, so that its table never mixes results of different arguments."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from trainer.arguments import ARGUMENT_CLASSES, Arguments
from trainer.recipe import RecipeError
from trainer.run_record import RUN_RECORD
from trainer.whole_files import write_whole


# Where data lies in between, how fast and how loudly it goes, and what follows a training: no result depends on it.
_WITHOUT_EFFECT = (
    *("cache_dir", "num_proc", "dataloader_num_workers", "ddp_timeout"),
    *("disable_tqdm", "report_to", "report", "onnx"),
)


_DEFAULTS = {
    one.name: one.default for arguments in ARGUMENT_CLASSES for one in fields(arguments) if one.default is not MISSING
}


def begin_experiment(folder: Path, args: Mapping[str, Arguments], **more: Any) -> None:
    """Save what the runs of an experiment are asked for, or go on with it; runs may be added to those begun.

    Args:
        args: {name: arguments} of its runs, by the names of their folders.
        more: what else decides its results, such as a space to search.

    Raises:
        RecipeError: there are several processes, a run was begun with other arguments, or nobody knows with which.
    """
    if any(one.training.world_size > 1 for one in args.values()):
        raise RecipeError("An experiment trains in one process: start it without accelerate launch.")
    asked = json.loads(json.dumps({name: _of_effect(one) | more for name, one in args.items()}, default=str))
    path = folder / "experiment.json"
    if not path.exists() and any(folder.glob(f"*/{RUN_RECORD}")):
        raise RecipeError(f"{folder} holds runs, but not {path.name}, which says what they were begun with.")
    begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in asked.keys() & begun.keys():
        # an argument that a later version brought was begun without: by its default
        now, before = _DEFAULTS | asked[name], _DEFAULTS | begun[name]
        changed = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
        if changed:
            was = ", ".join(f"{key} {before.get(key)!r}, not {now.get(key)!r}" for key in changed)
            raise RecipeError(
                f"{folder} was begun with other arguments ({name}: {was}), whose results would be mixed with these. "
                "Go on as it was begun, choose another --output_dir, or remove that folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(begun | asked, indent=1) + "\n")


def _of_effect(args: Arguments) -> dict[str, Any]:
    described = args.describe() | {"dataset": args.data.dataset, "manifest": args.data.manifest}
    return {name: value for name, value in described.items() if name not in _WITHOUT_EFFECT}
