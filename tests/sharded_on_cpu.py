"""`train` under FSDP or DeepSpeed without a graphics card: accelerate offers them with one alone.

    python -m torch.distributed.run --nproc_per_node 2 tests/sharded_on_cpu.py KIND CONFIG ...

KIND is fsdp, fsdp1 or zero2, zero3 (DeepSpeed's stages). PyTorch and DeepSpeed themselves shard on
a CPU, over gloo; what accelerate decides of the machine is put in its place.
"""

import os
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

from easyanimate_core.cli.main import main

_FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}
_FSDP1 = {
    "FSDP_VERSION": "1",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_SYNC_MODULE_STATES": "false",
}
_DEEPSPEED = {
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
    "ACCELERATE_GRADIENT_CLIPPING": "1.0",
}


def _start(kind: str) -> None:
    if kind.startswith("zero"):
        from deepspeed import comm

        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
        PartialState(cpu=True)
        os.environ.update(_DEEPSPEED, ACCELERATE_DEEPSPEED_ZERO_STAGE=kind[-1])
        distributed = DistributedType.DEEPSPEED
    else:
        PartialState(cpu=True)
        os.environ.update(_FSDP)
        if kind == "fsdp1":
            os.environ.update(_FSDP1)
        distributed = DistributedType.MULTI_GPU  # of which accelerate makes FSDP
    PartialState._shared_state["distributed_type"] = distributed


if __name__ == "__main__":
    _start(sys.argv[1])
    sys.exit(main(["train", *sys.argv[2:]]))
