"""Score on a machine of its own onto a disk that is too small, make the disk larger, and score again.

python -m tests.support.ray_on_a_full_disk DISK INPUT ... [options of scripts.predict]
"""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from cluster.machines import cluster
from model.errors import AgeGenderError
from scripts.predict import main, read_arguments


if __name__ == "__main__":
    disk, *arguments = sys.argv[1:]
    output = Path(disk, "faces")
    options = read_arguments([*arguments, "--output", str(output), "--ray", "local"])
    with cluster("local"):
        try:
            main(options)
        except AgeGenderError as error:
            print(error)
        assert not list(output.glob(".*")), "an unfinished file takes what space is left"
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        main(options)
    pictures = pq.read_table(output)["picture"].to_pylist()
    assert sorted(pictures) == list(range(len(pictures)))
