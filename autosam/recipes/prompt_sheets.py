"""What `autosam prompts` does: show the prompts of a configuration on pictures, and how right they are."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import Config
from autosam.data.sources import make_split, open_data
from autosam.drawing import (
    IGNORED,
    INK,
    PREDICTED_OUTLINE,
    WATER,
    contact_sheet,
    hatched,
    marked,
    overlay,
    save_picture,
    shrink,
)
from autosam.errors import ConfigError, OutputError
from autosam.files import PathLike, read_json, write_json
from autosam.models.methods import bands_needed, method_prompts
from autosam.prompts.boxes import tight_box
from autosam.prompts.prompters import OraclePrompter, Prompter, make_prompter
from autosam.recipes.coarse_sources import find_coarse
from autosam.types import WATER_POINT, Prompt, Sample

SHOWN_SIDE = 480
"""Longest side of a picture on the sheet, in pixels."""
LEGEND = (
    ("true water", WATER),
    ("disc: point on water", PREDICTED_OUTLINE),
    ("cross: point on land; frame: box", INK),
    ("ignored", IGNORED),
)


def draw_prompts(
    config: Config,
    output: PathLike,
    *,
    count: int = 8,
    token: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Draw the automatic and the oracle prompts of validation pictures side by side, with the truth.

    Besides the sheet it measures, over all validation pictures, how many of the automatic points that
    should be on water lie on land, and how well the automatic box agrees with the true one: points can
    be mislabelled where a box stays right.

    Args:
        config: A method whose prompts are geometry.
        output: A PNG file; the numbers go beside it, as JSON.
        count: Pictures on the sheet.
        token: For private data.
        say: Told how good the coarse mask is.

    Returns:
        ``source``, ``pictures``, ``points`` (on water, where the label counts), ``points_on_land`` (share
        of these), ``points_ignored`` (on ground whose label does not count), ``box_iou`` (mean).

    Raises:
        ConfigError: The method is not prompted by geometry.
        OutputError: The output is no PNG file, is somebody else's, or cannot be written.
    """
    _check_output(Path(output))
    prompts = method_prompts(config)
    if prompts is None or prompts.kind in ("null", "full-box"):
        raise ConfigError(
            f"method must be prompted by points, boxes or masks, got {config.method!r}. "
            "Try --set method=decoder."
        )
    data = open_data(config.data, token=token, bands=bands_needed(config))
    split = make_split(config.data, data, seed=config.seed)
    validation = data.samples.select(split.validation)
    coarse, _ = find_coarse(
        config, data.samples.select(split.train), validation, split, token=token, say=say
    )
    prompter = make_prompter(prompts, coarse)
    pairs = [_pair(sample, prompter) for sample in validation]
    oracle = OraclePrompter(prompts)
    pictures, titles = [], []
    for sample, prompt in pairs[:count]:
        for title, one in ((prompt.source, prompt), (oracle.source, oracle(sample))):
            pictures.append(shrink(_drawn(sample, one), SHOWN_SIDE))
            titles.append(title if one is not prompt else f"{title}: {sample.name}")
    save_picture(output, contact_sheet(pictures, titles, 2, legend=LEGEND))
    report = {"source": prompter.source, "pictures": len(pairs), **_agreement(pairs)}
    write_json(Path(output).with_suffix(".json"), report)
    return report


def _check_output(output: Path) -> None:
    """Refuse what is no picture, and a picture or numbers that are not of an earlier call."""
    if output.suffix.lower() != ".png" or output.is_dir():
        raise OutputError(f"output must be a PNG file, got {output}. Try -o prompts.png.")
    numbers = output.with_suffix(".json")
    try:
        ours = "points_on_land" in read_json(numbers)
    except (OSError, ValueError, TypeError):
        ours = False
    there = [path for path in (output, numbers) if path.exists()]
    if there and not ours:
        raise OutputError(
            f"output must be new, or of an earlier `autosam prompts`, got {there[0]}, which is something "
            "else and would be lost. Choose another name with -o."
        )


def _pair(sample: Sample, prompter: Prompter) -> tuple[Sample, Prompt]:
    """A picture with its automatic prompt, for which its label is hidden unless it is an oracle."""
    is_oracle = isinstance(prompter, OraclePrompter)
    seen = sample if is_oracle else dataclasses.replace(sample, mask=None, valid=None)
    return sample, prompter(seen)


def _drawn(sample: Sample, prompt: Prompt) -> np.ndarray:
    """The picture with the true mask tinted and a prompt marked on it."""
    truth = np.zeros(sample.size, bool) if sample.mask is None else sample.mask
    shown = truth if prompt.mask is None else prompt.mask
    drawn = hatched(overlay(sample.image, shown), ~sample.valid_area)
    for query in prompt.queries:
        boxes = () if query.box is None else (query.box,)
        drawn = marked(drawn, points=query.points, labels=query.labels, boxes=boxes)
    return drawn


def _agreement(pairs: Sequence[tuple[Sample, Prompt]]) -> dict[str, Any]:
    """How many points on water lie on land, and the IoU of boxes with the true ones."""
    right: list[bool] = []
    ignored = 0
    boxes: list[float] = []
    for sample, prompt in pairs:
        if sample.mask is None or not (sample.mask & sample.valid_area).any():
            continue
        true_box = tight_box(sample.mask & sample.valid_area)
        for query in prompt.queries:
            columns, rows = query.points[query.labels == WATER_POINT].round().astype(int).T
            counts = sample.valid_area[rows, columns]
            right += sample.mask[rows, columns][counts].tolist()
            ignored += int((~counts).sum())
            if query.box is not None and true_box is not None:
                boxes.append(_box_iou(query.box, true_box))
    return {
        "points": len(right),
        "points_on_land": float(1 - np.mean(right)) if right else None,
        "points_ignored": ignored,
        "box_iou": float(np.mean(boxes)) if boxes else None,
    }


def _box_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of two boxes whose sides are inside them, in whole pixels."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.prod(np.clip(high - low + 1, 0, None)))
    areas = sum(float(np.prod(box[2:] - box[:2] + 1)) for box in (one, other))
    return both / (areas - both)
