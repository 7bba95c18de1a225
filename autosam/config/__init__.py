"""Settings: frozen, checked where they enter, YAML in and out, every field documented under itself."""

from autosam.config.learning import (
    CacheSettings,
    DataSettings,
    EvaluateSettings,
    SplitKind,
    TrainSettings,
)
from autosam.config.prompting import (
    CoarseSettings,
    GeometricSettings,
    PromptKind,
    PromptSettings,
    RefineSettings,
    SamSettings,
)
from autosam.config.reading import config_from_dict, dump_config, load_config
from autosam.config.reference import reference_yaml
from autosam.config.whole import Config, Method, flattened

__all__ = [
    "CacheSettings",
    "CoarseSettings",
    "Config",
    "DataSettings",
    "EvaluateSettings",
    "GeometricSettings",
    "Method",
    "PromptKind",
    "PromptSettings",
    "RefineSettings",
    "SamSettings",
    "SplitKind",
    "TrainSettings",
    "config_from_dict",
    "dump_config",
    "flattened",
    "load_config",
    "reference_yaml",
]
