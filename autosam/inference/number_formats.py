"""How quick each number format is on this machine: measured, since processors of one name differ."""

import functools
import time
from collections.abc import Mapping

import torch

FORMATS: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WORTH_IT = 1.5
"""How many times as quick bfloat16 must be: the rest of a network does not speed up with its products."""
_SIDE = 512
_ROUNDS = 3


def product_speeds(device: str = "cpu") -> dict[str, float]:
    """GFLOP/s of one matrix product in each format, the best of a few; about 20 ms on a processor."""
    speeds = {}
    for name, dtype in FORMATS.items():
        matrix = torch.randn(_SIDE, _SIDE, device=device, dtype=dtype)
        float((matrix @ matrix)[0, 0])
        seconds = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            float((matrix @ matrix)[0, 0])  # reading it waits for a GPU
            seconds.append(time.perf_counter() - start)
        speeds[name] = 2 * _SIDE**3 / min(seconds) / 1e9
    return speeds


@functools.cache
def half_pays() -> bool:
    """Whether bfloat16 is worth its error on this processor."""
    speeds = product_speeds()
    return speeds["bfloat16"] > WORTH_IT * speeds["float32"]
