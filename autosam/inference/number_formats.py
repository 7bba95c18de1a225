"""How quick each number format is on this machine: measured, since processors of one name differ."""

import functools
import time
from collections.abc import Mapping

import torch

FORMATS: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WORTH_IT = 1.5
"""How many times as quick bfloat16 must be: the rest of a network does not speed up with its products."""
_SIDE = 512
_ROUNDS = 7
"""In turn, of which the best counts: a shared machine may lend half a processor for a while."""


def product_speeds(device: str = "cpu") -> dict[str, float]:
    """GFLOP/s of one matrix product in each format, the best of a few; about 30 ms on a processor."""
    matrices = {
        name: torch.randn(_SIDE, _SIDE, device=device, dtype=dtype)
        for name, dtype in FORMATS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in FORMATS}
    for number in range(_ROUNDS + 1):
        for name, matrix in matrices.items():
            start = time.perf_counter()
            float((matrix @ matrix)[0, 0])  # reading it waits for a GPU
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: 2 * _SIDE**3 / min(spent) / 1e9 for name, spent in seconds.items()}


@functools.cache
def half_pays() -> bool:
    """Whether bfloat16 is worth its error on this processor."""
    speeds = product_speeds()
    return speeds["bfloat16"] > WORTH_IT * speeds["float32"]
