"""`trainer.train` where every process has a disk of its own, as machines have.

accelerate launch --config_file trainer/accelerate/cpu.yaml -m tests.support.own_disks RECIPE ... --output_dir FOLDER
"""

import os
import sys
from pathlib import Path

from trainer import checkpoints as shared_folder
from trainer.train import main


if __name__ == "__main__":
    shared_folder.SECONDS_TO_APPEAR = 2  # a file that never comes need not be waited for any longer
    place = sys.argv.index("--output_dir") + 1
    disk = Path(sys.argv[place]) / os.environ["RANK"]
    main([*sys.argv[1:place], str(disk / "run"), *sys.argv[place + 1 :]])
