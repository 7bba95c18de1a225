"""Any function from sample to prediction, judged image by image and written down for others to check."""

import contextlib
import csv
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosam.config import EvaluateSettings
from autosam.drawing import save_picture
from autosam.errors import AutoSamError, DataError, OutputError
from autosam.evaluation.calibration import (
    LogitHistogram,
    expected_calibration_error,
    reliability_table,
)
from autosam.evaluation.file_names import safe_file_name
from autosam.evaluation.metrics import Row, by_group, pooled, score_mask, summarise
from autosam.evaluation.result import Evaluation
from autosam.evaluation.worst import WorstPictures
from autosam.files import PathLike, read_json, write_json, write_text
from autosam.plotting import save_histogram, save_reliability
from autosam.progress import progress_bar
from autosam.types import Prediction, Sample

BOOTSTRAP_SEED = 0
"""One for all evaluations, so that equal scores have equal intervals."""
FILES = (
    "clicks.json", "clicks.png", "per_image.csv", "histogram.png", "reliability.png", "worst.png",
    "metrics.json",
)  # fmt: skip
"""Beside masks/; metrics.json comes last, so that its presence means that all the others are complete. The
clicks are of a second look, which may follow."""
_UNFINISHED = ".evaluation.unfinished"
_EARLIER = "earlier-masks"


def evaluate(
    predict: Callable[[Sample], Prediction],
    samples: Sequence[Sample],
    *,
    settings: EvaluateSettings,
    directory: PathLike | None = None,
    context: Mapping[str, Any] | None = None,
    groups: Callable[[str], str] | None = None,
) -> Evaluation:
    """Judge predictions on labelled samples, at each image's own size.

    Samples are read and predicted one after the other and not kept. Images of one place are drawn
    together in the bootstrap. A progress bar is shown on a terminal only.

    Args:
        predict: Gives a prediction of the sample's own height and width.
        samples: Each with a mask; names are unique.
        settings: Boundary widths, resamples, size of the contact sheet.
        directory: Where to write metrics.json, per_image.csv, masks/<name>.png (255 water), histogram.png,
            reliability.png and worst.png. They appear together at the end, or not at all; those of an
            earlier evaluation are replaced. None: write nothing.
        context: What is judged (split, leak, model); kept in metrics.json.
        groups: From sample name to the name of its group, for scores by group.

    Raises:
        DataError: There is no sample, one has no mask, two have one name, or a prediction does not fit.
        OutputError: The directory cannot be written, or what lies there is not from an evaluation.
    """
    if not len(samples):
        raise DataError("samples must hold at least one, got 0. Choose a split that has some.")
    judge = _Judge(predict, settings, groups)
    if directory is None:
        _judge_all(judge, samples, masks=None)
        return judge.evaluation(context or {})
    with _staging(Path(directory)) as staged:
        _judge_all(judge, samples, masks=staged / "masks")
        evaluation = judge.evaluation(context or {})
        _write_files(staged, evaluation, judge.worst)
    return evaluation


class _Judge:
    """The rows so far, and what cannot be made from them afterwards."""

    def __init__(
        self,
        predict: Callable[[Sample], Prediction],
        settings: EvaluateSettings,
        groups: Callable[[str], str] | None,
    ) -> None:
        self.predict = predict
        self.settings = settings
        self.groups = groups
        self.worst = WorstPictures(settings.worst)
        self._rows: dict[str, dict[str, Any]] = {}
        self._histogram = LogitHistogram()

    def add(self, sample: Sample, *, masks: Path | None) -> None:
        """Predict, score, count, and perhaps write the mask."""
        truth = self._checked_truth(sample)
        prediction = self.predict(sample)
        _check_prediction(prediction, sample)
        no_data = None if prediction.valid is None else ~prediction.valid
        valid = sample.valid_area if no_data is None else sample.valid_area & ~no_data
        predicted = prediction.mask
        scores = score_mask(
            predicted,
            truth,
            valid=valid,
            boundary_pixels=self.settings.boundary_pixels,
            boundary_share=self.settings.boundary_share,
        )
        self._histogram.add_probability(prediction.probability, truth=truth, valid=valid)
        self._rows[sample.name] = {**self._facts(sample, prediction), **scores}
        if masks is not None:
            file = masks / f"{safe_file_name(sample.name)}.png"
            save_picture(file, predicted.astype(np.uint8) * 255)
            if scores["iou"] is not None:
                iou = scores["iou"]
                source = prediction.prompt.source if prediction.prompt else "prediction"
                self.worst.offer(
                    sample, predicted=predicted, truth=truth, valid=valid, iou=iou, source=source
                )

    def evaluation(self, context: Mapping[str, Any]) -> Evaluation:
        """Everything that the rows say together."""
        rows: list[Row] = list(self._rows.values())
        grouped = {} if self.groups is None else by_group(rows, self.groups)
        table = reliability_table(self._histogram)
        by_place = any(row["place"] is not None for row in rows)
        return Evaluation(
            rows=tuple(rows),
            summary=self._summarise(rows),
            pooled=pooled(rows),
            groups={
                name: {
                    "images": len(members),
                    "summary": self._summarise(members),
                    "pooled": pooled(members),
                }
                for name, members in grouped.items()
            },
            calibration={"ece": expected_calibration_error(table), "reliability": table},
            settings={
                "boundary_pixels": self.settings.boundary_pixels,
                "boundary_share": self.settings.boundary_share,
                "bootstrap": self.settings.bootstrap,
                "bootstrap_seed": BOOTSTRAP_SEED,
                "drawn_together": "images of one place" if by_place else "nothing",
            },
            context=dict(context),
        )

    def _summarise(self, rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
        # A place and a name are told apart, so that an image without a place stays by itself.
        blocks = [
            f"name {r['name']}" if r["place"] is None else f"place {r['place']}" for r in rows
        ]
        return summarise(
            rows, bootstrap=self.settings.bootstrap, seed=BOOTSTRAP_SEED, blocks=blocks
        )

    def _facts(self, sample: Sample, prediction: Prediction) -> dict[str, Any]:
        return {
            "name": sample.name,
            "group": None if self.groups is None else self.groups(sample.name),
            "place": sample.place,
            "date": None if sample.date is None else sample.date.isoformat(),
            "mask_file": f"{safe_file_name(sample.name)}.png",
            "height": sample.size[0],
            "width": sample.size[1],
            "threshold": prediction.threshold,
            "confidence": prediction.confidence,
            "presence": prediction.presence,
            "expected_iou": prediction.expected_iou,
            "domain_distance": prediction.domain_distance,
            "prompt": prediction.prompt.source if prediction.prompt else None,
        }

    def _checked_truth(self, sample: Sample) -> np.ndarray:
        if sample.mask is None:
            raise DataError(
                f"sample must have a mask to be judged by, got none (sample {sample.name!r}). "
                "Evaluate labelled samples; use predict for the others."
            )
        if sample.name in self._rows:
            raise DataError(
                f"names must be unique, got {sample.name!r} twice. "
                "Give each source its own prefix or rename the files."
            )
        return sample.mask


def _check_prediction(prediction: Prediction, sample: Sample) -> None:
    if prediction.probability.shape != sample.size:
        raise DataError(
            f"prediction must have the image's height and width {sample.size}, "
            f"got {prediction.probability.shape} (sample {sample.name!r}). "
            "Bring logits back to the original size first."
        )


def _judge_all(judge: _Judge, samples: Sequence[Sample], *, masks: Path | None) -> None:
    """One sample after the other; on a terminal, with a bar on standard error that counts them."""
    with progress_bar("evaluating", total=len(samples)) as advance:
        for sample in samples:
            judge.add(sample, masks=masks)
            advance(1)


def _write_files(staged: Path, evaluation: Evaluation, worst: WorstPictures) -> None:
    rows = evaluation.rows
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)  # None becomes an empty cell
    write_text(staged / "per_image.csv", text.getvalue())
    scores = [row["iou"] for row in rows if row["iou"] is not None]
    prompt = evaluation.prompt
    label = f"IoU of an image ({prompt} prompt)" if prompt else "IoU of an image"
    save_histogram(staged / "histogram.png", scores, label=label)
    calibration = evaluation.calibration
    save_reliability(
        staged / "reliability.png",
        calibration["reliability"],
        error=calibration["ece"],
        note=f"{prompt} prompt" if prompt else "",
    )
    sheet = worst.sheet()
    if sheet is not None:
        save_picture(staged / "worst.png", sheet)
    write_json(staged / "metrics.json", evaluation.to_dict())


@contextlib.contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    """A folder to write to, whose files move into `directory` when the block ends well."""
    staged = directory / _UNFINISHED
    if (staged / _EARLIER).is_dir() and not (directory / "masks").exists():
        os.replace(staged / _EARLIER, directory / "masks")  # killed between two renames
    check_evaluation_folder(directory)
    is_new = not directory.exists()
    try:
        with _as_output_error(directory):
            shutil.rmtree(staged, ignore_errors=True)
            (staged / "masks").mkdir(parents=True)
        yield staged
        with _as_output_error(directory):
            _publish(staged, directory)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):
                directory.rmdir()  # succeeds only when nothing came of it


def check_evaluation_folder(directory: Path) -> None:
    """Refuse a folder in which an evaluation would write over what no evaluation made.

    Raises:
        OutputError: It is a file, or holds files of an evaluation's names, or masks, of somebody else.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"output must be a folder, got the file {directory}. Choose another.")
    found = [name for name in (*FILES, "masks") if (directory / name).exists()]
    own = _earlier_masks(directory)
    if found and own is None:
        raise OutputError(
            f"evaluation folder must be new, empty or of an earlier evaluation, got {directory} with "
            f"{found[0]} and no metrics.json of ours. Choose another with -o: it would be lost."
        )
    masks = directory / "masks"
    strange = [path.name for path in masks.glob("*") if path.name not in (own or ())]
    if strange:
        raise OutputError(
            f"masks/ must hold what the earlier evaluation wrote, got {min(strange)} besides ({masks}). "
            "Move it away, or choose another folder with -o: it would be lost."
        )


def _earlier_masks(directory: Path) -> set[str] | None:
    """Names of the masks that an evaluation wrote here; None where none did."""
    try:
        metrics = read_json(directory / "metrics.json")
        with open(directory / "per_image.csv", encoding="utf-8", newline="") as file:
            names = {row["mask_file"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error, AutoSamError):
        return None
    ours = isinstance(metrics, dict) and {"images", "summary", "calibration"} <= metrics.keys()
    return names if ours else None


def _publish(staged: Path, directory: Path) -> None:
    if (directory / "masks").exists():
        os.replace(directory / "masks", staged / _EARLIER)
    os.replace(staged / "masks", directory / "masks")
    for name in FILES:
        if (staged / name).exists():
            os.replace(staged / name, directory / name)
        else:
            (directory / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _as_output_error(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            error.errno,
            f"{directory} could not be written: {error.strerror}. "
            "Choose an output folder that you may write to.",
        ) from error
