"""Question: where might a model be better than its label?

Shows the test pictures of a scoreboard run whose label the methods contradict together: they agree with each
other, not with it. Whether the label or the methods are right only a person can see, and methods that share
a backbone share its mistakes. Needs the folder of the cells, whose masks are kept, and the pictures.

Run:    python -m benchmarks.gallery SUITE --out runs/scoreboard/SUITE -o gallery.jpg [--data FOLDER]
            [--methods autosam,unet,segformer]
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from autosam.data.manifests import read_split
from autosam.data.sources import open_data
from autosam.drawing import contact_sheet, overlay, save_picture, shrink
from autosam.errors import AutoSamError, MissingPathError
from autosam.evaluation.file_names import safe_file_name
from autosam.overlap import mask_iou
from autosam.types import Sample
from benchmarks.scoreboard.suites import SuiteChoice, open_suite

SHOWN = 8
LONGEST = 420
"""Pixels of the longer side of a shown picture."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Contradiction:
    """A picture, its label, and what most methods say instead."""

    sample: Sample
    majority: np.ndarray
    """(height, width) bool: water for more than half of the masks."""
    iou: float
    """Of the majority with the label."""
    agreement: float
    """Mean IoU of the masks with their majority."""

    @property
    def weight(self) -> float:
        """How much the methods agree with each other and not with the label, in -1..1."""
        return self.agreement - self.iou


def masks_of(folder: Path, methods: Sequence[str], name: str) -> list[np.ndarray]:
    """Every kept mask of one test picture in one fold: of all seeds, with each method's own prompt."""
    found = []
    for method in methods:
        for path in sorted(
            (folder / method).glob(f"seed-*/judged/*/masks/{safe_file_name(name)}.png")
        ):
            if path.parent.parent.name in ("learnt", "none"):
                found.append(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127)
    return found


def contradiction(sample: Sample, masks: Sequence[np.ndarray]) -> Contradiction | None:
    """What the masks say together against the label; None where there are fewer than two."""
    if len(masks) < 2 or sample.mask is None:
        return None
    valid = sample.valid_area
    majority = (np.mean(masks, axis=0) > 0.5) & valid
    return Contradiction(
        sample=sample,
        majority=majority,
        iou=mask_iou(majority, sample.mask & valid),
        agreement=float(np.mean([mask_iou(mask & valid, majority) for mask in masks])),
    )


def sheet(found: Sequence[Contradiction]) -> np.ndarray:
    """Picture, label and majority side by side, a row for each."""
    pictures, titles = [], []
    for row in found:
        image, label = row.sample.image, row.sample.mask
        if label is None:
            raise AssertionError("a contradiction has a label")
        shown = (image, overlay(image, label), overlay(image, row.majority))
        pictures += [shrink(picture, LONGEST) for picture in shown]
        said = f"methods {row.iou:.2f}, agreeing {row.agreement:.2f}"
        titles += [row.sample.name, "label", said]
    return contact_sheet(pictures, titles, 3)


def main() -> None:
    """Find and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("suite")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cells")
    parser.add_argument("--data", type=Path, help="as it was for the suite")
    parser.add_argument("--methods", default="autosam,unet,segformer")
    parser.add_argument("-o", "--output", type=Path, default=Path("gallery.jpg"))
    arguments = parser.parse_args()
    try:
        suite = open_suite(
            SuiteChoice(name=arguments.suite, data=arguments.data, scratch=arguments.out)
        )
        samples, found = open_data(suite.data).samples, []
        folders = sorted((arguments.out / suite.name).glob("*/split.json"))
        if not folders:
            raise MissingPathError(
                f"--out must be the folder of a suite that was run, got {arguments.out} without cells of "
                f"{suite.name!r}. Run python -m benchmarks.accuracy {suite.name} first."
            )
        for path in track(folders, description="Comparing"):
            for name in read_split(path).test:
                masks = masks_of(path.parent, arguments.methods.split(","), name)
                if masks and (one := contradiction(samples.select([name])[0], masks)):
                    found.append(one)
        ordered = sorted(found, key=lambda row: -row.weight)[:SHOWN]
        print(save_picture(arguments.output, sheet(ordered)))
    except AutoSamError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
