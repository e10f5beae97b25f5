"""Run `trainer.train` under FSDP on CPUs: accelerate shards models on GPUs only, though torch does so on CPUs too.

    accelerate launch --config_file trainer/accelerate/fsdp.yaml -m tests.support.fsdp_on_cpus RECIPE ...

The only change: accelerate is told that these CPUs are GPUs.
"""

import sys

from accelerate.state import DistributedType, PartialState

from trainer.train import main


original_init = PartialState.__init__


def claim_gpus(self: PartialState, *args, **kwargs) -> None:
    original_init(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = claim_gpus
    main(sys.argv[1:])
