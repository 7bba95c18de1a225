"""What corrections are worth: IoU after each click of a simulated person, who sees the true mask."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import EvaluateSettings
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.evaluation.report import BOOTSTRAP_SEED
from autosam.files import write_json
from autosam.inference.segmenter import AutoSam
from autosam.overlap import mask_iou
from autosam.plotting import save_curves
from autosam.progress import progress_bar
from autosam.prompts.corrections import next_click
from autosam.types import Query, Sample
from autosam.wording import counted

SHOWN_CLICKS = (0, 1, 3, 5, 10, 20)


def click_curve(
    model: AutoSam,
    samples: Sequence[Sample],
    *,
    most: int,
    settings: EvaluateSettings,
    directory: Path,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Correct every mask click by click, and write ``clicks.json`` and ``clicks.png``.

    Each click goes into the middle of the largest error that is left; all clicks so far and the last
    mask are given to the model. A mask without an error is left as it is. The clicks are an oracle: they
    measure the model as a tool in a person's hands, not what it finds by itself.

    Args:
        model: With a SAM behind it.
        samples: Labelled.
        most: Clicks at most, 1 or more.
        settings: Resamples of the intervals.
        directory: Made if it is not there.
        say: Told the scores.

    Returns:
        ``rows``: name and IoU after 0, 1, ... clicks of each picture; ``mean``, ``low`` and ``high`` by
        number of clicks.

    Raises:
        ModelError: The model has no SAM to correct.
    """
    rows = []
    with progress_bar("clicking", total=len(samples)) as advance:
        for sample in samples:
            rows.append({"name": sample.name, "iou": _corrected_scores(model, sample, most)})
            advance(1)
    table = np.array([row["iou"] for row in rows])
    names = [str(row["name"]) for row in rows]
    intervals = [
        interval_of_mean(scores, names, resamples=settings.bootstrap, seed=BOOTSTRAP_SEED)
        for scores in table.T
    ]
    curve = {
        "prompt": f"{model.prompt_source}, then oracle clicks",
        "images": len(rows),
        "mean": table.mean(axis=0).tolist(),
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
        "rows": rows,
    }
    write_json(directory / "clicks.json", curve)
    _draw(directory / "clicks.png", curve)
    say(_sentence(curve["mean"]))
    return curve


def _corrected_scores(model: AutoSam, sample: Sample, most: int) -> list[float]:
    """IoU after 0 to `most` clicks."""
    if sample.mask is None:
        raise AssertionError("evaluation checks that samples are labelled")
    seen = model.judged(sample)
    embedding = model.embed(sample.image)
    prediction = model.predict_sample(seen, image_embedding=embedding)
    points, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    scores = [mask_iou(prediction.mask, sample.mask, valid=sample.valid)]
    for _ in range(most):
        click = next_click(prediction.mask, sample.mask, valid=sample.valid)
        if click is not None:
            points, labels = np.vstack([points, click[0][None]]), np.append(labels, click[1])
            prediction = model.predict_sample(
                seen,
                query=Query(points=points, labels=labels),
                previous=prediction,
                image_embedding=embedding,
            )
        scores.append(mask_iou(prediction.mask, sample.mask, valid=sample.valid))
    return scores


def _draw(path: Path, curve: dict[str, Any]) -> None:
    lines = {
        name: [(clicks, value) for clicks, value in enumerate(curve[key]) if value is not None]
        for name, key in (("mean", "mean"), ("95 % interval, low", "low"), ("high", "high"))
    }
    lines = {name: points for name, points in lines.items() if points}
    count = curve["images"]
    panel = f"IoU ({counted(count, 'image')})"
    save_curves(
        path,
        {panel: lines},
        x_label=f"oracle clicks after the prompt: {curve['prompt'].partition(',')[0]}",
    )


def _sentence(means: Sequence[float]) -> str:
    last = len(means) - 1
    counts = sorted({clicks for clicks in SHOWN_CLICKS if clicks < last} | {last})
    shown = [f"{means[clicks]:.3f} after {clicks}" for clicks in counts]
    return f"Mean IoU by oracle clicks: {', '.join(shown)}."
