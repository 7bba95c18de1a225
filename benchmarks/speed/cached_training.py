"""Question: what does an epoch from cached embeddings cost against encoding at every step?

Method: one network, one batch; A takes the embedding from memory, as from the cache, B encodes first, as
        the reference does. A and B alternate; medians of the rounds; the losses of A and B are compared.
Run:    python benchmarks/speed/cached_training.py --sam nano --rounds 5
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from autosam.config import config_from_dict
from autosam.files import write_json
from autosam.models.methods import build_network
from autosam.recipes.environment import environment
from autosam.training.losses import total_loss


def main() -> None:
    """Alternate A and B and write the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sam", default="nano", help="nano, or a folder or file of a larger SAM")
    parser.add_argument("--network", default="light")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = config_from_dict(
        {"sam": {"name": arguments.sam}, "prompt": {"network": arguments.network}}
    )
    network = build_network(config).train()
    optimiser = torch.optim.AdamW(network.trained_parameters(), 0.0)
    pixels = torch.randn(arguments.batch, 3, network.side, network.side)
    prompt_pixels = torch.randn(arguments.batch, 3, network.prompt_side, network.prompt_side)
    target = torch.rand(arguments.batch, 1, network.low_side, network.low_side) > 0.5
    with torch.no_grad():
        embedding = network.sam.embed(pixels).half()

    def step(cached: bool) -> float:
        given = {"image_embedding": embedding.float()} if cached else {"pixels": pixels}
        logits = network(**given, prompt_pixels=prompt_pixels)
        loss, _ = total_loss(logits, target, torch.ones_like(target), {"bce": 1.0, "dice": 1.0})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    seconds: dict[bool, list[float]] = {True: [], False: []}
    losses: dict[bool, float] = {}
    for round_number in range(arguments.rounds + 1):
        for cached in (True, False):
            start = time.perf_counter()
            losses[cached] = step(cached)
            if round_number:  # the first round warms up
                seconds[cached].append(time.perf_counter() - start)
    cached, encoding = (statistics.median(seconds[key]) for key in (True, False))
    result = {
        "question": "cached_training",
        "sam": arguments.sam,
        "network": arguments.network,
        "batch": arguments.batch,
        "seconds_per_step_cached": seconds[True],
        "seconds_per_step_encoding": seconds[False],
        "ratio": encoding / cached,
        "loss_difference": abs(losses[True] - losses[False]),
        "environment": environment(),
    }
    print(json.dumps({k: v for k, v in result.items() if k != "environment"}, indent=1))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
