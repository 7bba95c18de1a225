"""Fully automatic river masks from aerial RGB imagery: Segment Anything without prompts."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autosam.config import Config, load_config
    from autosam.errors import AutoSamError
    from autosam.inference.segmenter import AutoSam
    from autosam.recipes.evaluating import evaluate_run
    from autosam.recipes.training import train_run
    from autosam.types import Prediction, Sample

__version__ = "0.1.0"

__all__ = [
    "AutoSam",
    "AutoSamError",
    "Config",
    "Prediction",
    "Sample",
    "evaluate_run",
    "load_config",
    "train_run",
]

_HOMES = {
    "AutoSam": "autosam.inference.segmenter",
    "AutoSamError": "autosam.errors",
    "Config": "autosam.config",
    "Prediction": "autosam.types",
    "Sample": "autosam.types",
    "evaluate_run": "autosam.recipes.evaluating",
    "load_config": "autosam.config",
    "train_run": "autosam.recipes.training",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import autosam` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'autosam' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
