"""Question: once an image is embedded, what does a mask cost?

Method: every part of one answer is run in turn, round by round, so that what else the machine does meets all
        alike; medians and interquartile ranges of the rounds, after one that warms up. The picture is
        1024 x 1024, as an Elwha tile. Two ways that give the same thing, three joint points through our
        queries and through transformers' `SamModel`, are compared in time and in logits.
Run:    python benchmarks/speed/decoder.py --rounds 21
        (--base SCRATCH: a SAM of base's size with random weights, written into that folder once)
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from full_size import write_random_base
from torch import Tensor

from autosam.config import PromptSettings
from autosam.data.geometry import Frame, logits_to_original
from autosam.files import write_json
from autosam.models.prompt_network import build_prompt_network
from autosam.models.query_decoding import decode_prompts
from autosam.models.sam import Sam, load_sam, save_sam_hub
from autosam.recipes.environment import environment
from autosam.types import Query, SquarePrompt

NATIVE = 1024
OURS, THEIRS = "3 joint points to a mask, ours", "3 joint points to a mask, transformers"
Way = Callable[[], Tensor]


def transformers_model(sam: Sam) -> torch.nn.Module:
    """The same weights in transformers' own class."""
    from transformers import SamModel

    with tempfile.TemporaryDirectory() as folder:
        save_sam_hub(sam, folder)
        return SamModel.from_pretrained(folder).eval()


def prompt_ways(sam: Sam, points: Tensor, labels: Tensor) -> dict[str, Way]:
    """Geometry to the decoder's tokens, and a picture to the dense prompt."""
    box = torch.tensor([[0.1, 0.2, 0.8, 0.7]]) * sam.side
    mask_logits = torch.randn(1, 1, sam.low_side, sam.low_side)
    settings = PromptSettings(network="light")
    network = build_prompt_network(settings, grid=sam.grid, channels=sam.channels).eval()
    pixels = torch.randn(1, 3, settings.side, settings.side)
    return {
        "prompt: 3 points": lambda: sam.encode_queries(points, labels, None),
        "prompt: box": lambda: sam.encode_queries(None, None, box),
        "prompt: mask": lambda: sam.encode_masks(mask_logits),
        "prompt: network light": lambda: network(pixels),
    }


def all_ways(sam: Sam) -> dict[str, Way]:
    """What is timed, by name; each gives what it made."""
    pixels = torch.randn(1, 3, sam.side, sam.side)
    embedding, dense = sam.embed(pixels), sam.no_mask_embedding(1)
    points, labels = torch.rand(1, 3, 2) * sam.side, torch.tensor([[1, 1, 0]])
    tokens = sam.encode_queries(points, labels, None)
    three = [tensor.repeat(3, *[1] * (tensor.ndim - 1)) for tensor in (embedding, dense, tokens)]
    query = Query(points=points[0].numpy(), labels=labels[0].numpy())
    prompt, reference = SquarePrompt(queries=(query,)), transformers_model(sam)
    logits, frame = sam.decode(embedding, dense, tokens)[0], Frame.fit(NATIVE, NATIVE, sam.side)
    return {
        "encode": lambda: sam.embed(pixels),
        **prompt_ways(sam, points, labels),
        "decode: no points": lambda: sam.decode(embedding, dense),
        "decode: 1 query": lambda: sam.decode(embedding, dense, tokens),
        "decode: 3 queries": lambda: sam.decode(*three),
        f"resize to {NATIVE} x {NATIVE}": lambda: logits_to_original(logits, frame),
        OURS: lambda: decode_prompts(sam, embedding, dense, [prompt])[0],
        THEIRS: lambda: reference(
            image_embeddings=embedding,
            input_points=points[:, None],
            input_labels=labels[:, None],
            multimask_output=False,
        ).pred_masks[:, 0],
    }


def timed(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each round."""
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:  # the first round warms up
                milliseconds[name].append(1e3 * (time.perf_counter() - start))
    return milliseconds


def summarised(milliseconds: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, spread, and what it is of an encoding."""
    encode = np.median(milliseconds["encode"])
    parts = {}
    for name, values in milliseconds.items():
        low, median, high = np.percentile(values, (25, 50, 75))
        parts[name] = {
            "median_ms": round(float(median), 3),
            "iqr_ms": round(float(high - low), 3),
            "share_of_encode": round(float(median / encode), 4),
        }
    return parts


def main() -> None:
    """Time every way and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", type=Path, metavar="SCRATCH", help="base's size, not nano")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.base and not (arguments.base / "config.json").is_file():
        write_random_base(arguments.base)
    sam = load_sam(str(arguments.base or "nano"))
    with torch.no_grad():
        ways = all_ways(sam)
        milliseconds = timed(ways, arguments.rounds)
        ours, theirs = ways[OURS](), ways[THEIRS]()
    result = {
        "question": "decoder",
        "sam": "base, random weights" if arguments.base else "nano, random weights",
        "rounds": arguments.rounds,
        "parts": summarised(milliseconds),
        "transformers_over_ours": round(
            float(np.median(np.divide(milliseconds[THEIRS], milliseconds[OURS]))), 3
        ),
        "largest_difference_of_logits": float((ours - theirs).abs().max()),
        "std_of_logits": float(theirs.std()),
    }
    print(json.dumps(result, indent=1))
    if arguments.out:
        write_json(
            arguments.out, {**result, "milliseconds": milliseconds, "environment": environment()}
        )


if __name__ == "__main__":
    main()
