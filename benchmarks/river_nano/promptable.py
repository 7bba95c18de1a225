"""Stage one: a small promptable SAM, trained on objects of all kinds.

Masks with much wrong and boxes first, for they teach the decoder to read a dense prompt; clicks after, and
clicks on top of the last mask. One dense loss says to the encoder what water is. Killed runs go on. `refine`
then trains the decoder further, behind kept embeddings, three times as fast.

Run:    python -m benchmarks.river_nano.promptable --data FOLDER --out runs/river_nano [--minutes 55]
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from autosam.files import write_json
from autosam.recipes.environment import environment
from benchmarks.river_nano.collection import training_scenes
from benchmarks.river_nano.objects import ObjectBatch, ObjectBatches
from benchmarks.river_nano.simulated_prompts import boxes_of, corrupted_masks, sampled_clicks
from benchmarks.river_nano.small_sam import CLICK_DISCS, SmallSam, save_small_sam, save_trunk
from benchmarks.river_nano.timed_training import TimedTraining

RECIPE = Path(__file__).with_name("recipe.yaml")
ROUNDS_LATE = (3, 6)
"""Prompts in turn for each object, at least and at most, once half the time is over; two before."""
ROUNDS_LEARNT = 2
"""Of the last prompts, beside the first; those between only show what a person would see next."""


def kind_shares(progress: float) -> dict[str, float]:
    """How often each kind of prompt comes first."""
    early = {"mask": 0.4, "box": 0.3, "click": 0.3}
    late = {"mask": 0.2, "box": 0.2, "click": 0.6}
    return {kind: early[kind] * (1 - progress) + late[kind] * progress for kind in early}


def mask_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Cross-entropy and Dice of each mask, over what counts: shape of all but the last two axes."""
    area = counted.sum(dim=(-2, -1)).clamp(min=1)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid() * counted
    shared = (probability * target).sum(dim=(-2, -1))
    total = (probability + target * counted).sum(dim=(-2, -1))
    dice = 1 - (2 * shared + 1) / (total + 1)
    return (entropy * counted).sum(dim=(-2, -1)) / area + dice


def true_iou(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """IoU of each mask, for the head that predicts it."""
    mask, truth = (logits > 0) & (counted > 0), (target > 0.5) & (counted > 0)
    union = (mask | truth).sum(dim=(-2, -1))
    return (mask & truth).sum(dim=(-2, -1)) / union.clamp(min=1)


class Interaction:
    """The prompts of some objects so far, and what the decoder makes of them.

    Args:
        sam: Decodes.
        embedding: (objects, channels, grid, grid).
        target: (objects, 1, low, low) in 0..1.
        counted: The same, 1 where the target counts.
        generator: Of the prompts.
    """

    def __init__(
        self, sam: SmallSam, embedding: Tensor, target: Tensor, counted: Tensor,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.sam, self.embedding, self.generator = sam, embedding, generator
        self.target, self.counted = target, counted
        self.points = torch.zeros((len(target), 0, 2))
        self.labels = torch.zeros((len(target), 0), dtype=torch.long)
        self.boxes: Tensor | None = None
        self.mask: Tensor | None = None

    def click(self, logits: Tensor | None) -> None:
        """A click where the mask is wrong; inside the target where there is no mask."""
        truth = (self.target > 0.5) & (self.counted > 0)
        shown = torch.zeros_like(truth) if logits is None else (logits > 0) & (self.counted > 0)
        missed, added = truth & ~shown, shown & ~truth
        point, found = sampled_clicks(missed | added, self.generator)
        index = torch.arange(len(point))
        label = missed[index, 0, point[:, 1], point[:, 0]].long()
        label = torch.where(found, label, torch.full_like(label, -10))  # says nothing to SAM
        self.points = torch.cat([self.points, point[:, None].float()], dim=1)
        self.labels = torch.cat([self.labels, label[:, None]], dim=1)

    def begin(self, kind: str) -> None:
        """The first prompt."""
        if kind == "click":
            self.click(None)
        elif kind == "box":
            self.boxes = boxes_of(self.target, self.generator)
        else:
            self.mask = corrupted_masks(self.target, self.generator)

    def decode(self, *, multimask: bool) -> tuple[Tensor, Tensor]:
        """(objects, masks, low, low) logits and (objects, masks) predicted IoU."""
        mask = self.mask
        if self.points.shape[1]:
            low = self.target.shape[-1]
            mask = CLICK_DISCS.drawn(mask, self.points, self.labels, low=low)
        return self.sam.decode(
            self.embedding, points=self.points, labels=self.labels, boxes=self.boxes, mask=mask,
            multimask=multimask,
        )  # fmt: skip

    def loss(self, *, multimask: bool) -> tuple[Tensor, Tensor]:
        """The loss of the masks for the prompts so far, and the best logits (objects, 1, low, low)."""
        logits, predicted = self.decode(multimask=multimask)
        target, counted = self.target.expand_as(logits), self.counted.expand_as(logits)
        losses = mask_loss(logits, target, counted)
        best, index = losses.min(dim=1)
        scores = functional.mse_loss(predicted, true_iou(logits.detach(), target, counted))
        chosen = logits.detach()[torch.arange(len(index)), index][:, None]
        return best.mean() + scores, chosen


def interactive_loss(
    sam: SmallSam, embedding: Tensor, batch: ObjectBatch, generator: torch.Generator,
    *, progress: float,
) -> Tensor:  # fmt: skip
    """Mean loss over rounds of prompts; every kind of first prompt gets a share of the objects."""
    shares = kind_shares(progress)
    drawn = torch.multinomial(
        torch.tensor(list(shares.values())), 2, replacement=True, generator=generator
    )
    halves = torch.arange(len(batch.owner)) % 2
    rounds = 2 if progress < 0.5 else _drawn_rounds(generator)
    total, parts = torch.zeros(()), 0
    for half, kind in enumerate(list(shares)[int(index)] for index in drawn):
        mine = halves == half
        if not mine.any():
            continue
        interaction = Interaction(
            sam, embedding[batch.owner[mine]], batch.targets[mine], batch.counted[mine], generator
        )
        interaction.begin(kind)
        for number in range(rounds):
            several = (
                kind == "click" and number == 0 and bool(torch.rand((), generator=generator) < 0.4)
            )
            learns = number == 0 or number >= rounds - ROUNDS_LEARNT
            with torch.set_grad_enabled(learns):
                loss, logits = interaction.loss(multimask=several)
            if learns:
                total, parts = total + loss, parts + 1
            interaction.click(logits)
            interaction.mask = logits.clamp(-12, 12)
    return total / max(parts, 1)


def _drawn_rounds(generator: torch.Generator) -> int:
    least, most = ROUNDS_LATE
    return int(torch.randint(least, most + 1, (), generator=generator))


def stage_at(stages: list[dict[str, Any]], progress: float) -> int:
    """Which stage the training is in."""
    reached = 0.0
    for number, stage in enumerate(stages):
        reached += stage["share"]
        if progress < reached:
            return number
    return len(stages) - 1


class Pretraining(TimedTraining):
    """All of a small SAM, on crops of growing size.

    Args:
        recipe: As in recipe.yaml.
        data: Folder of the groups.
        out: Folder of the run.
    """

    def __init__(self, recipe: Mapping[str, Any], data: Path, out: Path) -> None:
        self.recipe, self.settings = recipe, recipe["promptable"]
        torch.manual_seed(recipe["seed"])
        self.scenes = training_scenes(data, recipe, out / "prepared")
        self.sam = SmallSam(self.settings["backbone"], channels=self.settings["channels"])
        trunk = list(self.sam.image_encoder.trunk.parameters())
        held = {id(parameter) for parameter in trunk}
        rest = [p for p in self.sam.parameters() if id(p) not in held and p.requires_grad]
        optimiser = torch.optim.AdamW(
            [
                {"params": rest, "peak": self.settings["learning_rate"]},
                {"params": trunk, "peak": self.settings["trunk_learning_rate"]},
            ],
            weight_decay=self.settings["weight_decay"],
        )
        super().__init__(self.sam, optimiser, out, told_every=20)
        self._stage, self._batches = -1, iter(())

    def losses(self, progress: float) -> dict[str, Tensor]:
        """What prompts ask for, and the dense one that says what water is."""
        batch = self._next_batch(progress)
        self.sam.train()
        embedding = self.sam.embed(batch.pixels)
        water = mask_loss(self.sam.water_logits(embedding), batch.water, batch.labelled)
        known = (batch.labelled.flatten(1).mean(dim=1) > 0.05).float()
        water = (water[:, 0] * known).sum() / known.sum().clamp(min=1)
        generator = torch.Generator().manual_seed(self.step)
        prompted = interactive_loss(self.sam, embedding, batch, generator, progress=progress)
        return {"prompted": prompted, "water": self.settings["water_weight"] * water}

    def _next_batch(self, progress: float) -> ObjectBatch:
        stage = stage_at(self.settings["stages"], progress)
        if stage != self._stage:
            drawn = ObjectBatches(
                self.scenes, self.settings["stages"][stage], objects=self.settings["objects"],
                seed=self.recipe["seed"], start=self.step,
            )  # fmt: skip
            loader = DataLoader(drawn, batch_size=None, num_workers=1, prefetch_factor=6)
            self._stage, self._batches = stage, iter(loader)
        return next(self._batches)


def main() -> None:
    """Train, then write the SAM in hub format, in float16."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the groups")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; goes on if begun"
    )
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--minutes", type=float, help="of training; the recipe's by default")
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    run = Pretraining(recipe, arguments.data, arguments.out)
    run.run(arguments.minutes or recipe["promptable"]["minutes"])
    save_small_sam(run.sam, arguments.out / "sam")
    save_trunk(run.sam, arguments.out / "trunk.safetensors")
    report = {
        "question": "promptable pre-training", "steps": run.step, "seconds": round(run.seconds),
        "scenes": len(run.scenes), "recipe": recipe, "environment": environment(),
    }  # fmt: skip
    write_json(arguments.out / "promptable.json", report)


if __name__ == "__main__":
    main()
