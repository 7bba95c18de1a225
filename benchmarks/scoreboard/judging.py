"""Whatever a cell has trained, behind one face: a sample in, a prediction out, and judged by one metric."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from autosam.config import EvaluateSettings
from autosam.data.sources import SampleCollection
from autosam.evaluation.calibration import LogitHistogram
from autosam.evaluation.report import evaluate
from autosam.evaluation.result import Evaluation
from autosam.files import read_json, write_json
from autosam.types import Prediction, Sample
from benchmarks.scoreboard.flattering import column_f1, whole_pixel_dice
from benchmarks.scoreboard.methods import load_adapter
from benchmarks.scoreboard.records import SCORES

TIMED = 5
"""Pictures whose prediction is timed, after one to warm up."""
DIGITS = 5
Predict = Callable[[Sample], Prediction]


def adapted(
    adapter: str, training: Sequence[Sample], validation: Sequence[Sample], *, seed: int
) -> tuple[Predict, float]:
    """Train a model that is not a run of ours and choose its threshold on validation; and that threshold."""
    model = load_adapter(adapter)()
    if hasattr(model, "fit"):
        model.fit(training, validation, seed=seed)
    histogram = LogitHistogram()
    for sample in validation:
        if sample.mask is not None:
            probability = _checked(model(sample.image), sample, adapter)
            histogram.add_probability(probability, truth=sample.mask, valid=sample.valid)
    threshold = histogram.threshold()[0]

    def predict(sample: Sample) -> Prediction:
        probability = _checked(model(sample.image), sample, adapter)
        return Prediction(
            name=sample.name, image=sample.image, probability=probability, threshold=threshold
        )

    return predict, threshold


def _checked(probability: Any, sample: Sample, adapter: str) -> np.ndarray:
    found = np.asarray(probability, dtype=np.float32)
    inside = found.shape == sample.size and bool(((found >= 0) & (found <= 1)).all())
    if not inside:
        raise ValueError(
            f"{adapter} must give (height, width) = {sample.size} probabilities in 0..1, got shape "
            f"{found.shape}, {found.min():.3g} to {found.max():.3g} ({sample.name})."
        )
    return found


def judge(
    predict: Predict,
    samples: SampleCollection,
    folder: Path,
    *,
    source: str,
    evaluated: Callable[[Path], Evaluation] | None = None,
) -> dict[str, Any]:
    """Judge on the test pictures, once: what was found before is read, not found again.

    Args:
        predict: Sample to prediction, of the test pictures alone.
        samples: The test part.
        folder: Of metrics, masks and the judgement.
        source: Of the prompts.
        evaluated: Does the judging for a run, which counts its openings; None to do it here.
    """
    kept = folder / "judgement.json"
    if kept.is_file():
        found: dict[str, Any] = read_json(kept, what="judgement")
        return found
    if evaluated is None:
        evaluation = evaluate(
            lambda sample: dataclasses.replace(predict(sample), valid=None),
            samples,
            settings=EvaluateSettings(),
            directory=folder,
        )
    else:
        evaluation = evaluated(folder)
    milliseconds = _timed(predict, samples)
    rows = [_row(row, samples, folder) for row in evaluation.rows]
    judgement = {
        "source": source,
        "is_oracle": source == "oracle",
        "prompt": evaluation.prompt,
        "rows": rows,
        "ece": evaluation.calibration["ece"],
        "reliability": evaluation.to_dict()["calibration"]["reliability"],
        "openings": evaluation.context.get("test_opened", 1),
        "milliseconds": milliseconds,
    }
    write_json(kept, judgement)
    return judgement


def _timed(predict: Predict, samples: SampleCollection) -> float | None:
    """Median milliseconds of a picture, decoding of the file excluded."""
    chosen = [samples[index] for index in range(min(TIMED, len(samples)))]
    if not chosen:
        return None
    predict(chosen[0])
    times = []
    for sample in chosen:
        start = time.perf_counter()
        predict(sample)
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times), 2)


def _row(row: Any, samples: SampleCollection, folder: Path) -> dict[str, Any]:
    """The scores of a picture, with the published metrics of the mask that was written."""
    sample = samples.select([row["name"]])[0]
    mask = cv2.imread(str(folder / "masks" / row["mask_file"]), cv2.IMREAD_GRAYSCALE) > 127
    if sample.mask is None:
        raise AssertionError("the pictures of a suite are labelled")
    truth, valid = sample.mask & sample.valid_area, sample.valid_area
    found = {score: row.get(score) for score in SCORES}
    if truth.any():
        found["column_f1"] = column_f1(mask & valid, truth)
        found["whole_pixel_dice"] = whole_pixel_dice(mask & valid, truth)
    rounded = {k: None if v is None else round(float(v), DIGITS) for k, v in found.items()}
    return {"name": row["name"], "mask_file": row["mask_file"], **rounded}
