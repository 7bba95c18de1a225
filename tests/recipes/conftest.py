"""A few labelled pictures, of which two are labelled wrongly, and settings that train in a second."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosam.config import Config, load_config


def write_rivers(folder: Path, *, count: int = 6, size: tuple[int, int] = (40, 48)) -> Path:
    """Grey rivers on green land; two labels are wrong.

    The first has the river at another place, the second lacks two rows along each bank.
    """
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        water = np.zeros(size, dtype=bool)
        top = 4 + 3 * index
        water[top : top + 12] = True
        image = np.where(water[..., None], (120, 130, 140), (40, 120, 30))
        noisy = image + generator.integers(-20, 20, (*size, 3))
        Image.fromarray(noisy.astype(np.uint8)).save(folder / "images" / f"river_{index}.png")
        label = np.roll(water, 20, axis=0) if index == 0 else water.copy()
        if index == 1:
            label[[top, top + 1, top + 10, top + 11]] = False
        Image.fromarray(label).save(folder / "masks" / f"river_{index}.png")
    return folder


def settings(sam: Path, folder: Path) -> dict:
    return {
        "sam": {"name": str(sam)},
        "prompt": {"network": "hardnet39ds", "side": 32},
        "train": {"epochs": 1, "batch_size": 1, "warmup_steps": 1, "save_steps": 1},
        "cache": {"directory": str(folder / "cache")},
    }


@pytest.fixture(scope="session")
def rivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder dataset that no test changes."""
    return write_rivers(tmp_path_factory.mktemp("rivers") / "rivers")


@pytest.fixture(scope="session")
def tiny_yaml(tmp_path_factory: pytest.TempPathFactory, tiny_sam_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(settings(tiny_sam_folder, folder)))
    return path


@pytest.fixture(scope="session")
def config(tiny_yaml: Path, rivers: Path) -> Config:
    return load_config(tiny_yaml, [f"data.source=[{rivers}]"])


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, as far as relabelling reads it: of a method that takes no time to train."""
    folder = tmp_path_factory.mktemp("quick-run")
    values = {
        "method": "threshold",
        "prompt": {"side": 32},
        "data": {"synthetic_count": 6, "synthetic_side": 48},
    }
    (folder / "config.yaml").write_text(json.dumps(values))
    return folder
