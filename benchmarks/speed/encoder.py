"""Question: what does it cost to encode a picture, by which program, and is the mask the same?

Method: A (transformers' encoder as it is), B (ours in torch) and the compiled ones alternate in one process,
        round by round, so that what else the machine does meets all alike; ratios are of the medians of
        processor seconds with --clock processor, else of wall seconds. Weights are random and of a visible
        scale (0.03, tables of positions 0.1: as initialised they are 0 and hide errors). Peak memory is that
        of a process that encodes once by one way. The roofline is the rate of float32 products of the same
        make, measured in the same round. With ONEDNN_MAX_CPU_ISA=AVX512_CORE a processor is one without AMX.
Run:    python -m benchmarks.speed.encoder --scratch FOLDER --out benchmarks/results/encoder--cpu.json
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autosam.files import write_json
from autosam.inference.number_formats import product_speeds
from autosam.inference.raster_plan import peak_memory
from autosam.inference.runtimes import available_runtimes, encoder_on
from autosam.models.sam import Sam, load_sam
from autosam.overlap import mask_iou
from autosam.recipes.environment import environment

Encode = Callable[[Tensor], Tensor]
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
TOKENS, WIDE, DEEP = 896, 768, 3072
"""Of the product that the roofline is measured by: a strip of windows through a layer of base's MLP."""


def write_random_sam(folder: Path, side: int, layers: int) -> None:
    """A SAM of base's width; side and depth may be less, to be quick."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    vision: dict[str, Any] = {"image_size": side, "num_hidden_layers": layers}
    vision["global_attn_indexes"] = [i for i in range(layers) if i % 3 == 2]
    prompt = {"image_size": side, "image_embedding_size": side // 16}
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.1 if "pos" in name else 0.03)
    model.save_pretrained(folder)


def way_of(sam: Sam, name: str) -> Encode:
    """What encodes."""
    encoder: Any = sam.image_encoder
    if name == "transformers":
        return lambda pixels: encoder(pixels).last_hidden_state
    return encoder_on(sam, name) or sam.encode_by_torch


def product_rate(clock: Callable[[], float]) -> float:
    """GFLOP/s of float32 products of the size that the encoder is made of."""
    tokens, weight = torch.randn(TOKENS, WIDE), torch.randn(DEEP, WIDE)
    start = clock()
    functional.linear(tokens, weight)
    return 2 * TOKENS * WIDE * DEEP / (clock() - start) / 1e9


def counted_gmac(sam: Sam, pixels: Tensor) -> float:
    """Multiplications of one encoding, as torch counts them on shapes without numbers."""
    from torch.utils.flop_counter import FlopCounterMode

    shapes: Any = copy.deepcopy(sam.image_encoder).to("meta")
    with FlopCounterMode(display=False) as counter:
        shapes(pixels.to("meta"))
    return counter.get_total_flops() / 2e9


def operator_shares(encode: Encode, pixels: Tensor) -> dict[str, float]:
    """Share of one encoding that each of torch's operators takes by itself; the eight largest."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        encode(pixels)
    spent = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    largest = sorted(spent, key=lambda key: -spent[key])[:8]
    return {key: round(spent[key] / sum(spent.values()), 3) for key in largest}


def compared(sam: Sam, expected: Tensor, found: Tensor) -> dict[str, float]:
    """How near an embedding is to that of transformers, and the masks of SAM's empty prompt from both."""
    dense = sam.no_mask_embedding(1)
    logits = [sam.decode(embedding, dense)[0, 0].numpy() for embedding in (expected, found)]
    middle = float(np.median(logits[0]))  # a random decoder's masks may else be empty
    cosine = functional.cosine_similarity(expected.flatten(), found.flatten(), dim=0)
    return {
        "relative_error": float((found - expected).norm() / expected.norm()),
        "cosine": float(cosine),
        "mask_iou": mask_iou(logits[0] > middle, logits[1] > middle),
    }


@torch.inference_mode()
def measured(sam: Sam, names: tuple[str, ...], rounds: int, clock_name: str) -> dict[str, Any]:
    """Seconds of each round, ratios, agreement and the roofline."""
    clock = CLOCKS[clock_name]
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, sam.side, sam.side)
    ways = {name: way_of(sam, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    rates: list[float] = []
    answers: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        for name, encode in ways.items():
            start = clock()
            answers[name] = encode(pixels)
            if number:  # the first round warms up
                seconds[name].append(clock() - start)
        rates += [product_rate(clock) for _ in range(5)]
    gmac = counted_gmac(sam, pixels)
    in_torch = [name for name in names if name in ("transformers", "torch")]
    first = np.array(seconds[names[0]])
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "gmac": round(gmac, 2),
        "clock": clock_name,
        "seconds": {name: [round(one, 4) for one in values] for name, values in seconds.items()},
        "times_as_fast": {name: round(median[names[0]] / median[name], 3) for name in names},
        "ratio_in_each_round": {
            name: [round(one, 3) for one in first / np.array(values)]
            for name, values in seconds.items()
        },
        "agreement": {name: compared(sam, answers[names[0]], answers[name]) for name in names[1:]},
        "operators": {name: operator_shares(ways[name], pixels) for name in in_torch},
        "product_gflops": round(float(np.median(rates)), 1),
        "share_of_product_rate": {
            name: round(2 * gmac / median[name] / float(np.median(rates)), 3) for name in names
        },
    }


def peak_mib(arguments: list[str]) -> float:
    """Largest resident size of a process that encodes once."""
    command = [sys.executable, "-m", "benchmarks.speed.encoder", *arguments]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(answer.stdout.splitlines()[-1])["peak_mib"])


def installed_ways() -> tuple[str, ...]:
    """transformers, and every runtime that is here."""
    return ("transformers", *available_runtimes())


def encode_once(source: str, name: str) -> None:
    """For `peak_mib`."""
    sam = load_sam(source)
    with torch.inference_mode():
        way_of(sam, name)(torch.randn(1, 3, sam.side, sam.side))
    print(json.dumps({"peak_mib": round(peak_memory() / 2**20, 1)}))


def main() -> None:
    """Measure base's transformer and river-nano's convolutional encoder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, help="folder for the random SAM")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--ways", nargs="+", help="transformers and runtimes; all by default")
    parser.add_argument("--one", nargs=2, metavar=("SAM", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ["XDG_CACHE_HOME"] = str(arguments.scratch)  # converted graphs stay there
    if arguments.one:
        encode_once(*arguments.one)
        return
    base = arguments.scratch / f"random-{arguments.side}-{arguments.layers}"
    if not (base / "config.json").is_file():
        write_random_sam(base, arguments.side, arguments.layers)
    scratch = ["--scratch", str(arguments.scratch)]
    result: dict[str, Any] = {
        "question": "encoder",
        "side": arguments.side,
        "layers": arguments.layers,
        "instructions_up_to": os.environ.get("ONEDNN_MAX_CPU_ISA", "all"),
        "product_gflops": {name: round(speed) for name, speed in product_speeds().items()},
    }
    names = tuple(way for way in installed_ways() if way in (arguments.ways or installed_ways()))
    plan: Mapping[str, tuple[str, tuple[str, ...], int]] = {
        "transformer": (str(base), names, arguments.rounds),
        "river-nano": ("river-nano", names[1:], 5 * arguments.rounds),  # transformers has none such
    }
    for title, (source, ways, rounds) in plan.items():
        peak_mib(["--one", source, ways[-1], *scratch])  # converting takes more memory than running
        peaks = {way: peak_mib(["--one", source, way, *scratch]) for way in ways}
        result[title] = measured(load_sam(source), ways, rounds, arguments.clock)
        result[title]["peak_mib"] = peaks
        print(json.dumps({title: result[title]}, indent=1), flush=True)
    if arguments.out:
        write_json(arguments.out, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
