"""What `autosam prompts` does: show the prompts of a configuration on pictures, and how right they are."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import Config
from autosam.data.sources import make_split, open_data
from autosam.drawing import (
    INK,
    PREDICTED_OUTLINE,
    WATER,
    contact_sheet,
    marked,
    overlay,
    save_picture,
    shrink,
)
from autosam.errors import ConfigError, OutputError
from autosam.files import PathLike, write_json
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
        ``source``, ``pictures``, ``points``, ``points_on_land`` (share), ``box_iou`` (mean).

    Raises:
        ConfigError: The method is not prompted by geometry.
        OutputError: The output is no PNG file, or cannot be written.
    """
    if Path(output).suffix.lower() != ".png" or Path(output).is_dir():
        raise OutputError(f"output must be a PNG file, got {output}. Try -o prompts.png.")
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


def _pair(sample: Sample, prompter: Prompter) -> tuple[Sample, Prompt]:
    """A picture with its automatic prompt, for which its label is hidden unless it is an oracle."""
    is_oracle = isinstance(prompter, OraclePrompter)
    seen = sample if is_oracle else dataclasses.replace(sample, mask=None, valid=None)
    return sample, prompter(seen)


def _drawn(sample: Sample, prompt: Prompt) -> np.ndarray:
    """The picture with the true mask tinted and a prompt marked on it."""
    truth = np.zeros(sample.size, bool) if sample.mask is None else sample.mask
    shown = truth if prompt.mask is None else prompt.mask
    drawn = overlay(sample.image, shown)
    for query in prompt.queries:
        boxes = () if query.box is None else (query.box,)
        drawn = marked(drawn, points=query.points, labels=query.labels, boxes=boxes)
    return drawn


def _agreement(pairs: Sequence[tuple[Sample, Prompt]]) -> dict[str, Any]:
    """How many points on water lie on land, and the IoU of boxes with the true ones."""
    right: list[bool] = []
    boxes: list[float] = []
    for sample, prompt in pairs:
        if sample.mask is None or not sample.mask.any():
            continue
        true_box = tight_box(sample.mask)
        for query in prompt.queries:
            on_water = query.points[query.labels == WATER_POINT].round().astype(int)
            right += sample.mask[on_water[:, 1], on_water[:, 0]].tolist()
            if query.box is not None and true_box is not None:
                boxes.append(_box_iou(query.box, true_box))
    return {
        "points": len(right),
        "points_on_land": float(1 - np.mean(right)) if right else None,
        "box_iou": float(np.mean(boxes)) if boxes else None,
    }


def _box_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of two boxes whose sides are inside them, in whole pixels."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.prod(np.clip(high - low + 1, 0, None)))
    areas = sum(float(np.prod(box[2:] - box[:2] + 1)) for box in (one, other))
    return both / (areas - both)
