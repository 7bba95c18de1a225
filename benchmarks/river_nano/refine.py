"""Between the stages: prompt encoder and mask decoder go on alone, on pictures that are encoded once.

A step costs a third of one that trains the encoder too, and what a click needs is learnt here. Begins from
any SAM that `promptable` wrote, the shipped one included, and goes on where a killed run stopped. At the end
the weights are averaged with those it began with, which keeps what a prompt network was trained behind.
Source of that: Wortsman et al. 2022, arXiv 2109.01903.

Run:    python -m benchmarks.river_nano.refine --data FOLDER --out runs/refined [--sam FOLDER] [--minutes 40]
"""

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from autosam.files import replacing, write_json
from autosam.models.embedded import EMBEDDED_FOLDERS
from autosam.recipes.environment import environment
from benchmarks.river_nano.collection import training_scenes
from benchmarks.river_nano.objects import ObjectBatch, ObjectBatches
from benchmarks.river_nano.promptable import RECIPE, interactive_loss
from benchmarks.river_nano.scenes import Scene
from benchmarks.river_nano.small_sam import SmallSam, load_small_sam, save_small_sam
from benchmarks.river_nano.timed_training import TimedTraining


@torch.no_grad()
def encode_all(
    sam: SmallSam, scenes: list[Scene], settings: Mapping[str, Any], folder: Path, *, seed: int
) -> list[Path]:
    """Batches of every side with their embeddings, a file each."""
    sam.eval()
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for stage in settings["stages"]:
        drawn = ObjectBatches(scenes, stage, objects=settings["objects"], seed=seed, start=0)
        loader = DataLoader(drawn, batch_size=None, num_workers=2, prefetch_factor=4)
        batches = itertools.islice(loader, stage["batches"])
        for number, batch in enumerate(
            track(batches, f"Encoding at {stage['side']}", total=stage["batches"])
        ):
            path = folder / f"{stage['side']}-{number:04d}.safetensors"
            _write_batch(path, sam.embed(batch.pixels), batch)
            files.append(path)
    return files


def _write_batch(path: Path, embedding: Tensor, batch: ObjectBatch) -> None:
    state = {
        "embedding": embedding.half(),
        "targets": (batch.targets * 255).round().byte(),
        "counted": batch.counted.byte(),
        "owner": batch.owner,
    }
    with replacing(path) as beside:
        save_file(state, beside)


def _read_batch(path: Path) -> tuple[Tensor, ObjectBatch]:
    state, nothing = load_file(path), torch.empty(0)
    batch = ObjectBatch(
        pixels=nothing, water=nothing, labelled=nothing, targets=state["targets"].float() / 255,
        counted=state["counted"].float(), owner=state["owner"],
    )  # fmt: skip
    return state["embedding"].float(), batch


class Refinement(TimedTraining):
    """Prompt encoder and mask decoder of a SAM, behind embeddings that are kept.

    Args:
        sam: Encoder as it is; the rest trains.
        settings: `refine` of the recipe.
        files: Batches, of `encode_all`.
        out: Folder of the run.
    """

    def __init__(
        self, sam: SmallSam, settings: Mapping[str, Any], files: Sequence[Path], out: Path
    ) -> None:
        self.sam, self.files = sam, files
        parts = torch.nn.ModuleList([sam.prompt_encoder, sam.mask_decoder])
        trained = [p for p in parts.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            [{"params": trained, "peak": settings["learning_rate"]}],
            weight_decay=settings["weight_decay"],
        )
        super().__init__(parts, optimiser, out, told_every=50)

    def losses(self, progress: float) -> dict[str, Tensor]:
        """What prompts ask for, clicks above all."""
        generator = torch.Generator().manual_seed(self.step)
        chosen = int(torch.randint(len(self.files), (), generator=generator))
        embedding, batch = _read_batch(self.files[chosen])
        loss = interactive_loss(self.sam, embedding, batch, generator, progress=1.0)
        return {"prompted": loss}


@torch.no_grad()
def averaged(sam: SmallSam, begun: SmallSam, share: float) -> None:
    """Move a refined SAM towards the one it began as; 1 leaves it as it is."""
    for after, before in zip(sam.parameters(), begun.parameters(), strict=True):
        after.lerp_(before, 1 - share)


def told_before(sam: Path) -> dict[str, Any]:
    """What the training of a SAM says of itself: beside it, or in the shipped model's description."""
    path = sam.parent / "promptable.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    facts = json.loads((sam.parent / "config.json").read_text())["facts"]
    return dict(facts["promptable"])


def main() -> None:
    """Train, then write the SAM in hub format, in float16."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the groups")
    parser.add_argument("--sam", type=Path, help="folder to begin with; the shipped SAM by default")
    parser.add_argument("--out", type=Path, required=True, help="of the run; goes on if begun")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--minutes", type=float, help="of training; the recipe's by default")
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    settings = recipe["refine"]
    torch.manual_seed(recipe["seed"])
    begin = arguments.sam or EMBEDDED_FOLDERS["river-nano"] / "sam"
    sam = load_small_sam(begin)
    kept = arguments.out / "encoded"
    files = sorted(kept.glob("*.safetensors"))
    if len(files) < sum(stage["batches"] for stage in settings["stages"]):
        scenes = training_scenes(arguments.data, recipe, arguments.out / "prepared")
        files = encode_all(sam, scenes, settings, kept, seed=recipe["seed"])
        del scenes  # gigabytes
    run = Refinement(sam, settings, files, arguments.out)
    run.run(arguments.minutes or settings["minutes"])
    averaged(sam, load_small_sam(begin), settings["learnt_share"])
    save_small_sam(sam, arguments.out / "sam")
    before = told_before(begin)
    report = {
        **before,
        "refined_steps": before.get("refined_steps", 0) + run.step,
        "refined_seconds": before.get("refined_seconds", 0) + round(run.seconds),
        "refine": settings,
        "environment": environment(),
    }
    write_json(arguments.out / "promptable.json", report)


if __name__ == "__main__":
    main()
