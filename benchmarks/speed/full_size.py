"""Question: does the full-size path fit a small machine?

Method: a random `base` SAM is written in Meta's .pth and in hub format, both are loaded and must have one
        fingerprint; one image is encoded; one training step is made with hardnet85 at 512 px from the
        embedding; peak resident memory is read after each part.
Run:    python benchmarks/speed/full_size.py --scratch FOLDER
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch

from autosam.config import PromptSettings
from autosam.files import write_json
from autosam.models.autosam import PromptedSam
from autosam.models.prompt_network import build_prompt_network
from autosam.models.sam import load_sam, save_sam_meta
from autosam.recipes.environment import environment
from autosam.training.losses import total_loss


def peak_gib() -> float:
    """Largest resident size of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def write_random_base(folder: Path) -> None:
    """A SAM of base's size with weights of a visible scale, in hub format."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    model = SamModel(SamConfig())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.1 if "pos" in name else 0.03)
    model.save_pretrained(folder)


def main() -> None:
    """Walk the path once and write what it cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--part", choices=("write", "walk"), default="walk")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    hub, meta = arguments.scratch / "base", arguments.scratch / "base.pth"
    if arguments.part == "write":  # in a process of its own, so that its memory is not counted
        write_random_base(hub)
        save_sam_meta(load_sam(str(hub)), meta)
        return
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}

    def clock(name: str, start: float) -> None:
        seconds[name] = round(time.perf_counter() - start, 2)
        peaks[name] = peak_gib()

    start = time.perf_counter()
    fingerprint = load_sam(str(meta), encoder=False).fingerprint
    clock("load Meta's .pth without encoder", start)
    start = time.perf_counter()
    sam = load_sam(str(hub))
    clock("load hub folder", start)
    assert sam.fingerprint == fingerprint, "the two formats must be one SAM"
    pixels = torch.randn(1, 3, 1024, 1024)
    start = time.perf_counter()
    with torch.no_grad():
        embedding = sam.embed(pixels)
    clock("encode one image", start)
    del sam
    sam = load_sam(str(hub), encoder=False)
    prompter = build_prompt_network(PromptSettings(network="hardnet85", side=512), grid=sam.grid)
    network = PromptedSam(sam, prompter, checkpoint_decoder=True).train()
    optimiser = torch.optim.AdamW(network.trained_parameters(), 3e-4)
    prompt_pixels = torch.randn(2, 3, 512, 512)
    target = torch.rand(2, 1, 256, 256) > 0.5
    start = time.perf_counter()
    logits = network(image_embedding=embedding.repeat(2, 1, 1, 1), prompt_pixels=prompt_pixels)
    loss, _ = total_loss(logits, target, torch.ones_like(target), {"bce": 1.0, "dice": 1.0})
    loss.backward()
    optimiser.step()
    clock("one training step, hardnet85 at 512 px, batch 2", start)
    result = {"question": "full_size", "seconds": seconds, "peak_gib": peaks, "loss": loss.item()}
    print(json.dumps(result, indent=1))
    if arguments.out:
        write_json(arguments.out, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
