"""Question: what does the overlap of tiles buy, and should probabilities or logits be blended?

Method: each picture is masked three times, the second time with the grid of tiles moved by half a step, the
        third time by half a tile. Where masks differ, it was the place of a tile that decided, not the
        ground. Counted in the interior, half a tile and more from the frame. IoU is that with the label.
        The work is in tiles.
Run:    python benchmarks/accuracy/seams.py --pictures FOLDER [FOLDER ...] --out seams.json [--model RUN]
"""

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rich.progress import track

from autosam import AutoSam
from autosam.data.folders import FolderDataset
from autosam.files import write_json
from autosam.inference.tile_models import AutoSamTiles, TileModel
from autosam.inference.tiles import mask_raster
from autosam.maps.settings import MapSettings
from autosam.overlap import mask_iou
from autosam.recipes.environment import environment
from autosam.types import Sample

OVERLAPS = (0.0, 0.125, 0.25, 0.5)
BLENDS = ("probability", "logit")
LARGEST_LOGIT = 12.0
"""Beyond it a probability is 0 or 1 to five digits; logits are blended as shares of twice this."""


class Counted:
    """A model whose tiles are counted, and whose answers may be put on the scale of logits."""

    def __init__(self, model: TileModel, blend: str) -> None:
        self._model, self._blend = model, blend
        self.identity, self.side, self.batch = f"{model.identity} {blend}", model.side, model.batch
        self.threshold, self.ground_resolution = model.threshold, None
        self.tiles = 0

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the model answers, in 0..1 on either scale."""
        self.tiles += len(tiles)
        found = self._model(tiles)
        return found if self._blend == "probability" else [_as_share(one) for one in found]


def _as_share(probability: np.ndarray) -> np.ndarray:
    least = 1 / (1 + np.exp(LARGEST_LOGIT))
    inside = np.clip(probability.astype(np.float64), least, 1 - least)
    logit = np.log(inside / (1 - inside))
    share: np.ndarray = (logit / (2 * LARGEST_LOGIT) + 0.5).astype(np.float32)
    return share


def _as_probability(share: np.ndarray) -> np.ndarray:
    probability: np.ndarray = 1 / (1 + np.exp(-(share - 0.5) * 2 * LARGEST_LOGIT))
    return probability


def probability_of(model: Counted, sample: Sample, *, overlap: float, shift: int) -> np.ndarray:
    """(height, width) in 0..1, of tiles that were blended on the model's scale."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        source, output = Path(folder) / "picture.tif", Path(folder) / "mask.tif"
        height, width = sample.size
        with rasterio.open(
            source, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8"
        ) as raster:
            raster.write(sample.image.transpose(2, 0, 1))
        settings = MapSettings(probability="float32", overlap=overlap, shift=shift)
        mask_raster(model, source, output, settings=settings)
        with rasterio.open(output.with_suffix(".probability.tif")) as written:
            found: np.ndarray = written.read(1)
    return found


def measure(model: TileModel, sample: Sample) -> list[dict[str, Any]]:
    """A row for each overlap and scale."""
    rows = []
    for overlap in OVERLAPS:
        for blend in BLENDS:
            counted = Counted(model, blend)
            still = probability_of(counted, sample, overlap=overlap, shift=0)
            tiles = counted.tiles
            # Where overlap is a half, half a tile is a whole step: inside, no tile has another place.
            shifts = round(model.side * (1 - overlap)) // 2, model.side // 2
            moved, further = (
                probability_of(counted, sample, overlap=overlap, shift=shift) for shift in shifts
            )
            if blend == "logit":
                still, moved, further = (_as_probability(one) for one in (still, moved, further))
            inside = np.s_[model.side // 2 : -model.side // 2, model.side // 2 : -model.side // 2]
            water, other, third = (one >= model.threshold for one in (still, moved, further))
            truth = sample.mask
            rows.append(
                {
                    "picture": sample.name, "overlap": overlap, "blend": blend, "tiles": tiles,
                    "mean_difference": float(np.abs(still - moved)[inside].mean()),
                    "changed_share": float((water != other)[inside].mean()),
                    "changed_share_by_half_a_tile": float((water != third)[inside].mean()),
                    "iou": None
                    if truth is None or not (truth & sample.valid_area).any()
                    else mask_iou(water, truth, valid=sample.valid),
                }
            )  # fmt: skip
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over pictures, for each overlap and scale."""
    found = []
    for overlap in OVERLAPS:
        for blend in BLENDS:
            own = [row for row in rows if (row["overlap"], row["blend"]) == (overlap, blend)]
            scored = [row["iou"] for row in own if row["iou"] is not None]
            found.append(
                {
                    "overlap": overlap, "blend": blend, "pictures": len(own),
                    "tiles": sum(row["tiles"] for row in own),
                    "mean_difference": float(np.mean([row["mean_difference"] for row in own])),
                    "changed_share": float(np.mean([row["changed_share"] for row in own])),
                    "changed_share_by_half_a_tile": float(
                        np.mean([row["changed_share_by_half_a_tile"] for row in own])
                    ),
                    "iou": float(np.mean(scored)) if scored else None,
                }
            )  # fmt: skip
    return found


def main() -> None:
    """Measure all pictures that are large enough, and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="labelled folders")
    parser.add_argument("--model", default="river-nano", help="a trained run")
    parser.add_argument("--most", type=int, default=4, help="pictures of a folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model = AutoSamTiles(AutoSam.from_pretrained(arguments.model))
    chosen: list[Sample] = []
    for folder in arguments.pictures:
        large = (s for s in FolderDataset(folder) if min(s.size) >= 2 * model.side)
        chosen += [sample for sample, _ in zip(large, range(arguments.most), strict=False)]
    rows = [row for sample in track(chosen, "Masking") for row in measure(model, sample)]
    result = {
        "question": "seams", "model": arguments.model, "side": model.side,
        "folders": [folder.name for folder in arguments.pictures],
        "summary": summary(rows), "rows": rows, "environment": environment(),
    }  # fmt: skip
    write_json(arguments.out, result)
    for row in result["summary"]:  # type: ignore[attr-defined]
        print(row)


if __name__ == "__main__":
    main()
