"""What to learn from, how to learn, how to judge, and where embeddings are kept."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

from autosam.config.checking import check
from autosam.errors import ConfigError, did_you_mean

SplitKind = Literal["published", "blocked", "by-date", "grouped"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What to learn from, and how it is divided."""

    source: tuple[str, ...] = ("synthetic",)
    """Where the samples are: 'synthetic', a hub id such as stodoran/elwha-segmentation-v1, a save_to_disk
    folder, a folder of parquet files, or folders that hold images/, masks/ and perhaps valid/."""
    split: SplitKind = "grouped"
    """How to divide: 'published' (the dataset's own), 'blocked' (train on one reach, test on the other),
    'by-date', or 'grouped' (random, whole groups together)."""
    group_by: str = ""
    """For 'grouped': a regular expression on the sample name; names whose match (its groups, if it has
    any) is equal stay together. Empty: every sample is its own group."""
    manifest: str = ""
    """A split manifest to use as it is; empty: make one and write it beside the weights."""
    validation_share: float = 0.15
    """For 'grouped': share of the samples that chooses checkpoint and threshold."""
    test_share: float = 0.15
    """For 'grouped': share of the samples that is reported on, once."""
    synthetic_count: int = 48
    """For 'synthetic': number of scenes."""
    synthetic_side: int = 384
    """For 'synthetic': height and width of a scene in pixels."""
    label_noise: float = 0.0
    """Share of the training labels spoiled as the real ones are, to measure what it costs; 0..1."""
    workers: int = 0
    """Processes that prepare batches; 0 prepares them in the training process."""

    def __post_init__(self) -> None:
        check(
            bool(self.source), "data.source", "name at least one source", self.source, "Name one."
        )
        for share in ("validation_share", "test_share", "label_noise"):
            value = getattr(self, share)
            check(0 <= value < 1, f"data.{share}", "be in 0..1", value, "It is a share.")
        total = self.validation_share + self.test_share
        check(
            total < 1,
            "data.validation_share + data.test_share",
            "be below 1",
            total,
            "Leave something to train on.",
        )
        check(
            self.synthetic_count >= 3, "data.synthetic_count", "be at least 3", self.synthetic_count,
            "Each of train, validation and test needs a scene.",
        )  # fmt: skip
        check(
            32 <= self.synthetic_side <= 8192, "data.synthetic_side", "be in 32..8192",
            self.synthetic_side, "It is in pixels.",
        )  # fmt: skip
        try:
            re.compile(self.group_by)
        except re.error as error:
            raise ConfigError(
                f"data.group_by must be a regular expression, got {self.group_by!r} ({error}). "
                "Write for example '^[^_]+' to group by what precedes the first underscore."
            ) from error
        check(self.workers >= 0, "data.workers", "be 0 or more", self.workers, "Use 0 to begin.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to learn."""

    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 4
    """Images in one forward pass of one process."""
    accumulation: int = 1
    """Forward passes per optimiser step; the loss is averaged over them."""
    learning_rate: float = 3e-4
    """Peak of the schedule."""
    decoder_learning_rate: float = 1e-4
    """Peak for the mask decoder, in the methods that train it; it starts from good weights."""
    weight_decay: float = 1e-4
    """AdamW's decay, on weight matrices only."""
    warmup_steps: int = 20
    """Optimiser steps from 0 to the peak; a cosine to 0 follows."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no limit."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Arithmetic of the step: 'auto' takes bf16 on a GPU that has it, otherwise full precision."""
    patience: int = 10
    """Epochs without a better validation score before training stops; 0 never stops early."""
    time_limit: float = 0.0
    """Seconds after which training ends with the best weights so far; 0 for no limit."""
    loss: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"bce": 1.0, "dice": 1.0})
    """Weight of each term: bce, dice, focal, tversky, cldice; for labels that are partly wrong, bootstrap or
    symmetric in the place of bce."""
    ignore_bank: float = 0.0
    """In training, the label does not count this near to its bank, on both sides, in cells of the mask
    decoder's grid (a quarter of SAM's side across); 0 counts all of it, otherwise 1 or more."""
    cache: bool = True
    """Encode each image and view once and train from the cache; the methods that train the encoder, or
    have none, ignore it."""
    views: Literal[1, 8] = 1
    """1: the image as it is; 8: its rotations and reflections, one drawn at random each time."""
    jitter: float = 0.2
    """Strength of random brightness, contrast, saturation and hue on what the prompt network sees."""
    crop: float = 0.0
    """Without a cache: random crops down to this share of the side, and as far out; 0 for none."""
    iou_head: bool = False
    """Also train the decoder's prediction of its own IoU, by squared error. Without it that prediction is
    stale once the decoder has trained, and is never used to choose a mask."""
    simulated_corrections: int = 0
    """Clicks of a simulated person: in each step up to this many, each into the largest error of the mask
    before it, which is fed back as SAM's mask prompt; 0 trains on the automatic prompt alone."""
    checkpoint_decoder: bool = False
    """Recompute the mask decoder in the backward pass: a little slower, much less memory."""
    most_false_water: float = 1.0
    """The threshold is the best of those that find water on at most this share of the ground of dry
    validation pictures, on average; 1 for no limit."""
    save_steps: int = 50
    """Optimiser steps between the states from which a killed run goes on; each epoch's end is saved too."""
    trackers: tuple[str, ...] = ()
    """Besides history.jsonl and history.csv: 'tensorboard', 'wandb'."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "save_steps"):
            value = getattr(self, name)
            check(value >= 1, f"train.{name}", "be 1 or more", value, "Use a whole number.")
        for name in ("learning_rate", "decoder_learning_rate"):
            value = getattr(self, name)
            check(0 < value < 1, f"train.{name}", "be in 0..1", value, "Try 3e-4.")
        for name in ("weight_decay", "warmup_steps", "clip", "patience", "time_limit", "jitter"):
            value = getattr(self, name)
            check(value >= 0, f"train.{name}", "be 0 or more", value, "Use 0 to switch it off.")
        count = self.simulated_corrections
        check(0 <= count <= 20, "train.simulated_corrections", "be in 0..20", count, "Try 3.")
        check(self.jitter <= 1, "train.jitter", "be in 0..1", self.jitter, "Try 0.2.")
        share = self.most_false_water
        check(0 <= share <= 1, "train.most_false_water", "be in 0..1", share, "Try 0.005.")
        check(0 <= self.crop < 1, "train.crop", "be in 0..1", self.crop, "Use 0 for none.")
        bank = self.ignore_bank
        check(
            bank == 0 or 1 <= bank <= 16, "train.ignore_bank", "be 0 or in 1..16", bank,
            "Neighbouring cells are 1 apart; try 1.",
        )  # fmt: skip
        known = ("bce", "dice", "focal", "tversky", "cldice", "bootstrap", "symmetric")
        for term, weight in self.loss.items():
            if term not in known:
                raise ConfigError(f"train.loss.{term} is not a loss. {did_you_mean(term, known)}")
            check(weight >= 0, f"train.loss.{term}", "be 0 or more", weight, "It is a weight.")
        check(
            sum(self.loss.values()) > 0, "train.loss", "have a term above 0", dict(self.loss),
            "Try {bce: 1, dice: 1}.",
        )  # fmt: skip
        for tracker in self.trackers:
            if tracker not in ("tensorboard", "wandb"):
                remedy = did_you_mean(tracker, ("tensorboard", "wandb"))
                raise ConfigError(f"train.trackers: {tracker!r} is not a tracker. {remedy}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How to judge."""

    boundary_pixels: int = 2
    """Distance that still counts as on the bank, for boundary F1."""
    boundary_share: float = 0.02
    """The same as a share of the image diagonal, for boundary IoU."""
    bootstrap: int = 1000
    """Resamples behind each 95 % interval."""
    worst: int = 12
    """Pictures on the contact sheet of the worst."""

    def __post_init__(self) -> None:
        for name in ("boundary_pixels", "bootstrap", "worst"):
            value = getattr(self, name)
            check(value >= 1, f"evaluate.{name}", "be 1 or more", value, "Use a whole number.")
        share = self.boundary_share
        check(0 < share < 1, "evaluate.boundary_share", "be in 0..1", share, "Try 0.02.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Where embeddings are kept."""

    directory: str = ""
    """A folder; empty: $AUTOSAM_CACHE, or autosam/embeddings under the user's cache folder."""
