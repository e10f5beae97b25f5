"""The real UTKFace: its oddities are accounted for, and neither order nor names change the split."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.check_splits import find_leaks
from tests.support.faces_on_disk import write_archive
from trainer.data.archives import read_archive
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.manifest import build_manifest
from trainer.data.sources import read_pictures
from trainer.data.splits import SPLITS


pytestmark = pytest.mark.slow
ODD_NAMES = {
    "24_0_1_20170116220224657 .jpg.chip.jpg": (24, 0, "Black"),
    "39_1_20170116174525125.jpg.chip.jpg": (39, 1, "unknown"),
    "55_0_0_20170116232725357jpg.chip.jpg": (55, 0, "White"),
    "61_1_20170109142408075.jpg.chip.jpg": (61, 1, "unknown"),
    "61_1_20170109150557335.jpg.chip.jpg": (61, 1, "unknown"),
}


@pytest.fixture(scope="module")
def part(shared_dir) -> list[tuple[str, bytes]]:
    """Ages with many duplicates, and the odd names."""

    def chosen() -> Iterator[tuple[str, bytes]]:
        for member in read_archive(shared_dir / "data" / "UTKFace.tar.gz"):
            name = member.name.rpartition("/")[2]
            if name in ODD_NAMES or name.startswith(("2_", "85_", "90_")):
                yield name, member.content

    return list(chosen())


def shuffled(part: list[tuple[str, bytes]], path: Path, seed: int) -> DataArguments:
    """The same pictures in another order, with other dates in their names."""
    random = np.random.default_rng(seed)
    files = []
    for row in random.permutation(len(part)):
        name, content = part[row]
        if name not in ODD_NAMES:
            name = f"{'_'.join(name.split('_')[:3])}_{random.integers(10**16, 10**17)}.jpg.chip.jpg"
        files.append((name, content))
    return DataArguments(dataset=str(write_archive(path / f"faces{seed}.tar.gz", files)), cache_dir=str(path / "cache"))


def test_shuffled_archives_give_the_same_split_without_leaks(part, tmp_path):
    first, second = (load_faces(shuffled(part, tmp_path, seed), seed=0) for seed in (1, 2))
    for split in SPLITS:
        for column in ("group", "age", "gender", "race"):
            assert first[split][column][:] == second[split][column][:]
    assert list(find_leaks(first)) == []


def test_odd_names_and_duplicates_are_accounted_for(part, tmp_path):
    args = shuffled(part, tmp_path, seed=1)
    manifest = build_manifest(read_pictures(args), args, seed=0).set_index("file_name")
    assert len(manifest) == len(part)
    for name, (age, gender, race) in ODD_NAMES.items():
        row = manifest.loc[name]
        assert (row["source_age"], row["source_gender"], row["source_race"]) == (age, gender, race)
    reasons = manifest["reason"].str.partition(":")[0].value_counts()
    assert set(reasons.index) <= {"", "copy", "contradicting ages", "contradicting genders"}
    assert reasons["copy"] > 10
