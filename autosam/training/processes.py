"""The one file that knows accelerate's singletons: devices, precision, and talk between processes."""

import contextlib
import datetime
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from autosam.errors import TrainingError

logger = logging.getLogger(__name__)

LONGEST_WAIT = datetime.timedelta(hours=12)
"""For how long the other processes wait while the main one validates."""


def make_accelerator(precision: str) -> Accelerator:
    """The accelerator of this process: CUDA where there is one, otherwise the CPU.

    Gradient accumulation is the loop's own work, since the last group of an epoch may be smaller.

    Args:
        precision: 'auto' (bf16 on a GPU that has it, otherwise full), 'no', 'bf16' or 'fp16'.

    Raises:
        TrainingError: The device cannot compute in that precision.
    """
    device = _processes().device
    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "no"
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError(
            "train.precision must be 'auto', 'no' or 'bf16' on a CPU, got 'fp16'. Use 'auto'."
        )
    # Accelerate remembers the last run of this process, which may have had another precision.
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=device.type == "cpu")


def _processes() -> PartialState:
    """This process among those that were launched together; made once, then remembered."""
    launched_on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    cpu = launched_on_cpu or not torch.cuda.is_available()
    if launched_on_cpu and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        # Accelerate 1.15 does so without a word; with --multi_gpu it starts them, on a CPU too.
        logger.warning(
            "`accelerate launch --cpu` starts a single process unless MPI is set up. For several, use "
            "`accelerate launch --multi_gpu --num_processes N` or `torchrun --nproc-per-node N`."
        )
    return PartialState(cpu=cpu, timeout=LONGEST_WAIT)


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks; also true when it is alone."""
    return os.environ.get("RANK", "0") == "0"


def place_among_processes() -> tuple[int, int, torch.device]:
    """The number of this process, of how many, and its device."""
    state = _processes()
    return state.process_index, state.num_processes, state.device


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """Let the main process run the block before all others, which find what it has made."""
    with _processes().main_process_first():
        yield


def least(values: Tensor) -> list[float]:
    """The least of each value over all processes; waits for the device."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        values = values.clone()
        torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MIN)
    numbers: list[float] = values.tolist()
    return numbers


def from_main(value: Any) -> Any:
    """What the main process gives, in every process."""
    box = [value]
    broadcast_object_list(box)
    return box[0]


def from_all(value: Any) -> list[Any]:
    """What each process gives, in order, in every process."""
    gathered: list[Any] = gather_object([value])
    return gathered
