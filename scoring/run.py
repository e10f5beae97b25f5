"""Score an input into a file, in one process or several, going on where an earlier run was stopped."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from scoring.inputs import all_entries
from scoring.output import Parts, answer_rows
from scoring.scorer import Scorer, read_entries
from scoring.sources import Entry, Source


@dataclass(frozen=True)
class Plan:
    """What lies ahead: how many pictures (of videos an estimate), and what they are known by."""

    pictures: int
    signature: str

    @classmethod
    def of(cls, sources: Sequence[Source]) -> "Plan":
        """
        Raises:
            ValueError: there is no picture.
        """
        counts = [source.count() for source in sources]
        if not sum(counts):
            raise ValueError("Expected pictures in the input, found none.")
        signatures = "\n".join(f"{count} {source.signature()}" for count, source in zip(counts, sources, strict=True))
        return cls(sum(counts), hashlib.sha256(signatures.encode(errors="surrogateescape")).hexdigest())


def score_to_file(
    scorer: Scorer,
    sources: Sequence[Source],
    parts: Parts,
    state: PartialState,
    settings: dict[str, Any],
    *,
    part_size: int,
) -> dict[str, int] | None:
    """Score what is not done yet and, when every process has finished, join the parts into the output.

    The input is cut into parts of `part_size` pictures; process `rank` of N takes parts rank, rank + N, ... A kill
    costs each process at most the part it was at, and the next run may have another number of processes.

    Args:
        settings: what the answers depend on; a run can only be continued under the same ones.

    Returns:
        In the main process: how many pictures, faces and pictures with an error the output has.

    Raises:
        ValueError: nothing to score, or the parts were begun under other settings or with another input.
        MissingPartsError: the processes did not all write into the same folder.
    """
    if state.is_main_process:
        plan = Plan.of(sources)
        parts.begin(settings | {"pictures per part": part_size, "input": plan.signature})
    state.wait_for_everyone()
    done, rank, processes = parts.done(), state.process_index, state.num_processes
    count = 0

    def counted() -> Iterator[Entry]:
        nonlocal count
        for entry in all_entries(sources):
            count += 1
            yield entry

    def is_mine(index: int) -> bool:
        part = index // part_size
        return part % processes == rank and part not in done

    progress = tqdm(
        scorer.score(read_entries(counted(), is_mine)),
        total=_mine(plan.pictures, is_mine, part_size) if state.is_main_process else None,
        desc="Scoring" if processes == 1 else f"Scoring, process 1 of {processes}",
        unit=" pictures",
        disable=not state.is_main_process,
    )
    for part, pictures in groupby(progress, key=lambda scored: scored.index // part_size):
        parts.write(part, (row for scored in pictures for row in answer_rows(scored)))
    state.wait_for_everyone()
    return parts.merge(-(-count // part_size)) if state.is_main_process else None


def _mine(pictures: int, is_mine: Callable[[int], bool], part_size: int) -> int:
    """How many of the pictures are left to this process."""
    starts = range(0, pictures, part_size)
    return sum(min(part_size, pictures - start) for start in starts if is_mine(start))


def digest(model: torch.nn.Module) -> str:
    """Of all weights: tells a model from one that was trained again into the same folder."""
    total = hashlib.sha256()
    for name, weights in model.state_dict().items():
        total.update(name.encode())
        total.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
