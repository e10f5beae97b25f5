"""Run `trainer.train` with a folder of its own for each process, as machines without a shared disk have.

accelerate launch --config_file trainer/accelerate/cpu.yaml -m tests.support.own_disks RECIPE ... --output_dir FOLDER
"""

import os
import sys
from pathlib import Path

from trainer import checkpoints
from trainer.train import main


if __name__ == "__main__":
    checkpoints.SECONDS_TO_APPEAR = 2  # the file never appears: there is no use in waiting longer
    place = sys.argv.index("--output_dir") + 1
    disk = Path(sys.argv[place]) / os.environ["RANK"]
    main([*sys.argv[1:place], str(disk / "run"), *sys.argv[place + 1 :]])
