"""Question: what does drawing river-nano's logits along the picture's edges bring, by the filter's radius?

On the recipe's validation pictures: IoU of those with water at equal false water on the dry ones, and how
well banks agree; on drawn scenes, many of them narrow, IoU at the model's own threshold. Nothing trains,
and each picture is encoded once.

Run:    python -m benchmarks.river_nano.banks --data FOLDER --out OUT.json [--radii 0,1,2,3,4]
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.progress import track

from autosam import AutoSam
from autosam.data.synthetic import make_scene
from autosam.evaluation.boundaries import boundary_scores
from autosam.evaluation.calibration import LogitHistogram
from autosam.files import write_json
from autosam.inference.logits import Square, low_logits, original_logits
from autosam.models.guided_filter import GuidedFilter
from autosam.overlap import mask_iou
from autosam.recipes.environment import environment
from autosam.types import Sample
from benchmarks.river_nano.promptable import RECIPE
from benchmarks.river_nano.report import LEAST_WATER
from benchmarks.river_nano.scenes import labelled_names, read_scene

FALSE_WATER = (0.002, 0.003, 0.0045, 0.006, 0.01)
"""Shares of dry ground at which radii are compared."""
BANK = {"boundary_pixels": 3, "boundary_share": 0.02}
LONGEST = 1600
"""Pixels of a picture's longer side."""
SCENE_SIDE = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """A picture, and what the decoder says of it."""

    sample: Sample
    low: torch.Tensor
    square: Square

    def logits(self, model: AutoSam, radius: int, epsilon: float) -> np.ndarray:
        """(height, width), by a filter of this radius; 0 for none."""
        chosen = GuidedFilter(radius=radius, epsilon=epsilon) if radius else None
        model.network.guided_filter = chosen
        found: np.ndarray = original_logits(model.network, self.low, self.square).cpu().numpy()
        return found


def looked_at(model: AutoSam, samples: Sequence[Sample], words: str) -> Iterator[Looked]:
    """Every picture once through the network."""
    for sample in track(samples, description=words):
        low, square = low_logits(model.network, model.judged(sample))
        yield Looked(sample=sample, low=low, square=square)


def validation_samples(data: Path, recipe: dict[str, Any]) -> list[Sample]:
    """Of the recipe, shrunk as it trains them."""
    samples = []
    for name in labelled_names(data, recipe["data"], "validation"):
        scene = read_scene(data, name, longest=LONGEST)
        water, valid = scene.water > 127, scene.valid > 127
        samples.append(Sample(name=name, image=scene.image, mask=water, valid=valid))
    return samples


def measured(
    model: AutoSam, real: Sequence[Looked], drawn: Sequence[Looked], radius: int, epsilon: float
) -> dict[str, Any]:
    """One row."""
    boundary = model.decision.temperature * float(
        np.log(model.decision.threshold / (1 - model.decision.threshold))
    )
    wet, dry, banks = [], [], []
    for one in real:
        logits, valid, truth = (
            one.logits(model, radius, epsilon),
            one.sample.valid_area,
            one.sample.mask,
        )
        if truth is None:
            raise AssertionError("validation pictures are labelled")
        histogram = LogitHistogram()
        histogram.add(logits, truth=truth, valid=valid)
        land, water = histogram.counts[:, ::-1].cumsum(axis=1)[:, ::-1]
        if (truth & valid).sum() > LEAST_WATER * valid.sum():
            wet.append(water / (land + histogram.counts[1].sum()))
            banks.append(
                boundary_scores((logits >= boundary) & valid, truth & valid, valid=valid, **BANK)
            )
        else:
            dry.append((land + water) / histogram.counts.sum())
    iou, false = np.mean(wet, axis=0), np.mean(dry, axis=0)
    at = {f"{share:g}": float(np.interp(-share, -false, iou)) for share in FALSE_WATER}
    scenes = [
        mask_iou(one.logits(model, radius, epsilon) >= boundary, one.sample.mask)
        for one in drawn
        if one.sample.mask is not None
    ]
    return {
        "radius": radius, "iou_at_false_water": at, "best_iou": float(iou.max()),
        "boundary_iou": _mean(banks, "boundary_iou"), "boundary_f1": _mean(banks, "boundary_f1"),
        "drawn_iou": float(np.mean(scenes)),
    }  # fmt: skip


def _mean(scores: Sequence[dict[str, float | None]], name: str) -> float:
    return float(np.mean([value for one in scores if (value := one[name]) is not None]))


def main() -> None:
    """Measure every radius and write one result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the groups")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--radii", default="0,1,2,3,4", help="in cells of the decoder's grid")
    parser.add_argument("--epsilon", type=float, default=0.0003)
    parser.add_argument("--scenes", type=int, default=40, help="drawn ones")
    arguments = parser.parse_args()
    model = AutoSam.from_pretrained("river-nano")
    recipe = yaml.safe_load(RECIPE.read_text())
    real = list(looked_at(model, validation_samples(arguments.data, recipe), "real"))
    scenes = [make_scene(number, side=SCENE_SIDE) for number in range(arguments.scenes)]
    drawn = list(looked_at(model, scenes, "drawn"))
    rows = []
    for radius in (int(text) for text in arguments.radii.split(",")):
        rows.append(measured(model, real, drawn, radius, arguments.epsilon))
        print(rows[-1], flush=True)
    result = {
        "question": "guided filter by radius", "epsilon": arguments.epsilon, "rows": rows,
        "pictures": {"real": len(real), "drawn": len(drawn)}, "environment": environment(),
    }  # fmt: skip
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
