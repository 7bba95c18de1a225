"""All sections together: everything that decides what a run is."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

from autosam.config.learning import CacheSettings, DataSettings, EvaluateSettings, TrainSettings
from autosam.config.prompting import (
    CoarseSettings,
    GeometricSettings,
    PromptSettings,
    RefineSettings,
    SamSettings,
)
from autosam.errors import ConfigError

Method = Literal[
    "autosam", "autosam+decoder", "decoder", "decoder-null", "decoder-box-full", "zero-shot", "scratch",
    "unet", "segformer", "threshold",
]  # fmt: skip
_WITHOUT_TRAINED_SAM = ("unet", "segformer", "threshold", "zero-shot")
_WITH_PROMPT_NETWORK = ("autosam", "autosam+decoder", "scratch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run is."""

    method: Method = "autosam"
    """'autosam' trains the prompt network alone; 'autosam+decoder' also SAM's mask decoder. 'decoder' trains
    the mask decoder behind points or boxes (section geometric), 'decoder-null' behind SAM's own empty prompt,
    'decoder-box-full' behind a box around the whole picture. 'zero-shot' trains nothing; 'scratch' everything
    from random; 'unet', 'segformer' and
    'threshold' are the baselines without SAM."""
    start: str = ""
    """A trained model of the same method, SAM and prompt network, whose weights training begins with:
    'river-nano', the folder of a run, or a hub id. Empty: new weights."""
    seed: int = 0
    """Of weights, order and augmentation."""
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    sam: SamSettings = dataclasses.field(default_factory=SamSettings)
    prompt: PromptSettings = dataclasses.field(default_factory=PromptSettings)
    geometric: GeometricSettings = dataclasses.field(default_factory=GeometricSettings)
    coarse: CoarseSettings = dataclasses.field(default_factory=CoarseSettings)
    refine: RefineSettings = dataclasses.field(default_factory=RefineSettings)
    train: TrainSettings = dataclasses.field(default_factory=TrainSettings)
    evaluate: EvaluateSettings = dataclasses.field(default_factory=EvaluateSettings)
    cache: CacheSettings = dataclasses.field(default_factory=CacheSettings)

    def __post_init__(self) -> None:
        stale = self.method == "decoder" and not self.train.iou_head
        if self.geometric.fusion == "best" and stale:
            raise ConfigError(
                "geometric.fusion must be joint or mean unless the decoder's predicted IoU is trained, got "
                "'best'. Set train.iou_head=true, or choose another fusion."
            )
        clicks = self.train.simulated_corrections
        if clicks and self.method in _WITHOUT_TRAINED_SAM:
            raise ConfigError(
                f"train.simulated_corrections must be 0 for a method without a SAM that trains, got "
                f"{clicks} with {self.method!r}. Leave it out."
            )
        if self.train.iou_head and self.method in (*_WITHOUT_TRAINED_SAM, "autosam"):
            raise ConfigError(
                f"train.iou_head must be false for a method whose mask decoder does not train, got true "
                f"with {self.method!r}. Leave it out."
            )
        if self.prompt.bands and self.method not in _WITH_PROMPT_NETWORK:
            raise ConfigError(
                f"prompt.bands must be for a method whose prompt network reads them, "
                f"{', '.join(_WITH_PROMPT_NETWORK)}, got {list(self.prompt.bands)} with {self.method!r}. "
                "Leave them out, or choose another method."
            )
        if self.geometric.components == "each" and self.geometric.kind != "box":
            raise ConfigError(
                f"geometric.components must be one unless the prompt is a box, got 'each' with "
                f"{self.geometric.kind!r}. Set geometric.kind=box."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and YAML know them."""
        return typing.cast(dict[str, Any], plain(self))


def plain(value: Any) -> Any:
    """Settings, or one value of them, as JSON and YAML know it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, ``train.batch_size``; sections without any are left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
