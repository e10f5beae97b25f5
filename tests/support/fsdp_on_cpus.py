"""`trainer.train` under FSDP without a GPU: accelerate shards models on GPUs only, though torch does so anywhere.

Run by `accelerate launch --config_file trainer/accelerate/fsdp.yaml -m tests.support.fsdp_on_cpus RECIPE ...`. Only what
accelerate takes this machine for is changed.
"""

import sys

from accelerate.state import DistributedType, PartialState

from trainer.train import main


find_out = PartialState.__init__


def claim_gpus(self: PartialState, *args, **kwargs) -> None:
    find_out(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = claim_gpus
    main(sys.argv[1:])
