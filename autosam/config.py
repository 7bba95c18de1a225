"""Settings: frozen, checked where they enter, YAML in and out, every field documented under itself."""

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from autosam.errors import ConfigError, MissingPathError, did_you_mean
from autosam.files import PathLike

Method = Literal[
    "autosam", "autosam+decoder", "decoder", "decoder-null", "decoder-box-full", "zero-shot", "scratch",
    "unet", "segformer", "threshold",
]  # fmt: skip
PromptKind = Literal["points", "box", "both", "mask", "null", "full-box"]
SplitKind = Literal["published", "blocked", "by-date", "grouped"]


def _check(rule: bool, setting: str, must: str, value: object, remedy: str) -> None:
    if not rule:
        raise ConfigError(f"{setting} must {must}, got {value!r}. {remedy}")


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
        _check(
            bool(self.source), "data.source", "name at least one source", self.source, "Name one."
        )
        for share in ("validation_share", "test_share", "label_noise"):
            value = getattr(self, share)
            _check(0 <= value < 1, f"data.{share}", "be in 0..1", value, "It is a share.")
        total = self.validation_share + self.test_share
        _check(
            total < 1,
            "data.validation_share + data.test_share",
            "be below 1",
            total,
            "Leave something to train on.",
        )
        _check(
            self.synthetic_count >= 3, "data.synthetic_count", "be at least 3", self.synthetic_count,
            "Each of train, validation and test needs a scene.",
        )  # fmt: skip
        _check(
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
        _check(self.workers >= 0, "data.workers", "be 0 or more", self.workers, "Use 0 to begin.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamSettings:
    """Which SAM stands behind the prompt."""

    name: str = "nano"
    """'river-nano' (small, and installed with this package), 'nano' (random weights), 'base', 'large',
    'huge', a hub id, a folder, or Meta's .pth file."""
    revision: str = ""
    """Branch, tag or commit on the hub; empty: its main branch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """The network that looks at the image and writes the dense prompt."""

    network: str = "light"
    """'light', 'hardnet39ds', 'hardnet68', 'hardnet85' (the paper), or any timm backbone with features at
    strides 4, 8 and 16."""
    side: int = 256
    """Height and width of its input in pixels, a multiple of 16; the paper uses 256, 352 and 512."""
    weights: str = ""
    """Where its backbone starts: '' for random, 'imagenet' for pretrained weights that are installed or
    reachable, or the path of a weight file."""
    antialias: bool = True
    """Smooth while shrinking SAM's square to the side above; False is the paper's behaviour."""
    bands: tuple[str, ...] = ()
    """Bands that it reads besides red, green and blue: 'nir', 'thermal', 'dem', or any other name that the
    data has as a folder beside images/. SAM itself stays RGB and frozen."""

    def __post_init__(self) -> None:
        _check(
            self.side >= 32 and self.side % 16 == 0,
            "prompt.side",
            "be a multiple of 16, at least 32",
            self.side,
            "Try 256, 352 or 512.",
        )
        _check(
            len(set(self.bands)) == len(self.bands), "prompt.bands", "name each band once",
            list(self.bands), "Remove one.",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometricSettings:
    """Points, boxes and masks as prompts, for 'decoder' and 'zero-shot'."""

    kind: PromptKind = "points"
    """'points', 'box', 'both' (points and a box in one query), 'mask' (SAM's mask prompt), 'null' (nothing)
    or 'full-box' (around the whole picture)."""
    source: Literal["coarse", "oracle"] = "coarse"
    """What they are made from at inference: 'coarse' (see the section below; nobody clicks) or 'oracle' (the
    true mask: for upper bounds only, and labelled so everywhere). Training always uses the true mask."""
    positive: int = 3
    """Points on water."""
    negative: int = 0
    """Points on land."""
    erode: bool = True
    """Draw points from the core of the mask only; it never vanishes, however narrow the river."""
    spacing: bool = True
    """Keep points apart, by a distance that grows with the mask's area."""
    fusion: Literal["joint", "mean", "best"] = "joint"
    """'joint': all points are one query and give one mask, as SAM was trained. The article's ways: each
    point a query of its own, then the 'mean' of the logits or the 'best' by SAM's predicted IoU."""
    components: Literal["one", "each"] = "one"
    """Boxes: 'one' around all the water, or one for 'each' connected component, whose masks are united."""
    perturbation: float = 0.04
    """In training, each side of a box moves by up to this share of the picture's longer side, inwards or
    outwards alike (10 px at 256); 0 for exact boxes."""

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            value = getattr(self, name)
            _check(0 <= value <= 100, f"geometric.{name}", "be in 0..100", value, "Try 3.")
        pointless = self.kind in ("points", "both") and self.positive + self.negative == 0
        _check(
            not pointless, "geometric.positive", "be 1 or more to prompt with points", self.positive,
            "Set geometric.kind to null for no prompt at all.",
        )  # fmt: skip
        value = self.perturbation
        _check(0 <= value < 0.5, "geometric.perturbation", "be in 0..0.5", value, "Try 0.04.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoarseSettings:
    """The coarse mask from which prompts are made at inference, with nobody clicking."""

    source: str = "hsv"
    """'hsv' (a range of hue, saturation and value), 'index' (needs the band nir, or swir), 'thermal' (needs
    the band thermal; cold is dark), or the folder or hub id of a trained run, whose mask it then is. On grey
    rivers like the Elwha fixed 'hsv' ranges are poor, with an IoU of .20 to .32: prefer a run."""
    index: str = "ndwi"
    """For 'index': ndwi (green and nir), mndwi (green and swir), ndvi (red and nir; water is low) or nir
    (water is dark)."""
    threshold: str = "fit"
    """For 'index' and 'thermal': 'fit' (tuned on training masks), 'otsu' (of each picture), or a number."""
    minimum_area: float = 0.0005
    """Components below this share of the picture are dropped."""
    largest_hole: float = 0.0005
    """Holes up to this share of the picture are closed."""
    erosions: int = 0
    """Passes of a 3 x 3 erosion, fewer where a component would vanish."""

    def __post_init__(self) -> None:
        _check(bool(self.source), "coarse.source", "name a rule or a run", self.source, "Try hsv.")
        known = ("ndwi", "mndwi", "ndvi", "nir")
        if self.index not in known:
            raise ConfigError(
                f"coarse.index must be one of its choices, got {self.index!r}. "
                f"{did_you_mean(self.index, known)}"
            )
        try:
            number = 0.0 if self.threshold in ("fit", "otsu") else float(self.threshold)
        except ValueError:
            number = float("nan")
        _check(
            number - number == 0, "coarse.threshold", "be fit, otsu or a number", self.threshold,
            "Try fit.",
        )  # fmt: skip
        for name in ("minimum_area", "largest_hole"):
            value = getattr(self, name)
            _check(0 <= value < 1, f"coarse.{name}", "be in 0..1", value, "It is a share.")
        _check(0 <= self.erosions <= 50, "coarse.erosions", "be in 0..50", self.erosions, "Use 0.")


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
    save_steps: int = 50
    """Optimiser steps between the states from which a killed run goes on; each epoch's end is saved too."""
    trackers: tuple[str, ...] = ()
    """Besides history.jsonl and history.csv: 'tensorboard', 'wandb'."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "save_steps"):
            value = getattr(self, name)
            _check(value >= 1, f"train.{name}", "be 1 or more", value, "Use a whole number.")
        for name in ("learning_rate", "decoder_learning_rate"):
            value = getattr(self, name)
            _check(0 < value < 1, f"train.{name}", "be in 0..1", value, "Try 3e-4.")
        for name in ("weight_decay", "warmup_steps", "clip", "patience", "time_limit", "jitter"):
            value = getattr(self, name)
            _check(value >= 0, f"train.{name}", "be 0 or more", value, "Use 0 to switch it off.")
        count = self.simulated_corrections
        _check(0 <= count <= 20, "train.simulated_corrections", "be in 0..20", count, "Try 3.")
        _check(self.jitter <= 1, "train.jitter", "be in 0..1", self.jitter, "Try 0.2.")
        _check(0 <= self.crop < 1, "train.crop", "be in 0..1", self.crop, "Use 0 for none.")
        bank = self.ignore_bank
        _check(
            bank == 0 or 1 <= bank <= 16, "train.ignore_bank", "be 0 or in 1..16", bank,
            "Neighbouring cells are 1 apart; try 1.",
        )  # fmt: skip
        known = ("bce", "dice", "focal", "tversky", "cldice", "bootstrap", "symmetric")
        for term, weight in self.loss.items():
            if term not in known:
                raise ConfigError(f"train.loss.{term} is not a loss. {did_you_mean(term, known)}")
            _check(weight >= 0, f"train.loss.{term}", "be 0 or more", weight, "It is a weight.")
        _check(
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
            _check(value >= 1, f"evaluate.{name}", "be 1 or more", value, "Use a whole number.")
        share = self.boundary_share
        _check(0 < share < 1, "evaluate.boundary_share", "be in 0..1", share, "Try 0.02.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Where embeddings are kept."""

    directory: str = ""
    """A folder; empty: $AUTOSAM_CACHE, or autosam/embeddings under the user's cache folder."""


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
    data: DataSettings = DataSettings()
    sam: SamSettings = SamSettings()
    prompt: PromptSettings = PromptSettings()
    geometric: GeometricSettings = GeometricSettings()
    coarse: CoarseSettings = CoarseSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    cache: CacheSettings = CacheSettings()

    def __post_init__(self) -> None:
        stale = self.method == "decoder" and not self.train.iou_head
        if self.geometric.fusion == "best" and stale:
            raise ConfigError(
                "geometric.fusion must be joint or mean unless the decoder's predicted IoU is trained, got "
                "'best'. Set train.iou_head=true, or choose another fusion."
            )
        clicks = self.train.simulated_corrections
        if clicks and self.method in ("unet", "segformer", "threshold", "zero-shot"):
            raise ConfigError(
                f"train.simulated_corrections must be 0 for a method without a SAM that trains, got "
                f"{clicks} with {self.method!r}. Leave it out."
            )
        if self.geometric.components == "each" and self.geometric.kind != "box":
            raise ConfigError(
                f"geometric.components must be one unless the prompt is a box, got 'each' with "
                f"{self.geometric.kind!r}. Set geometric.kind=box."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and YAML know them."""
        return typing.cast(dict[str, Any], _plain(self))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def load_config(path: PathLike | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file of differences from the defaults, then apply ``section.key=value`` overrides.

    Args:
        path: The file; None for the defaults alone.
        overrides: As after ``--set``: values are YAML, so lists and numbers are written plainly.

    Raises:
        MissingPathError: There is no such file.
        ConfigError: The file is not a YAML mapping, or a key or value cannot be used.
    """
    values: dict[str, Any] = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(values, override)
    return config_from_dict(values)


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """Build and check a configuration from plain values.

    Raises:
        ConfigError: A key is unknown or a value cannot be used.
    """
    return typing.cast(Config, _build(Config, values, ""))


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise ConfigError(f"configuration must be a YAML file, got the folder {path}. Name a file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingPathError(
            f"configuration must exist, got {path}. Check the path, or see configs/."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} must be YAML, got: {reason}. Mend that line.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must hold 'key: value' lines, got a {type(values).__name__}. "
            "See configs/reference.yaml."
        )
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set must be key=value, got {override!r}. Try --set train.epochs=5.")
    *sections, last = key.strip().split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {section} is a value, not a section. Set it itself.")
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key} must be a YAML value, got {text!r}. Quote it.") from error


def _build(kind: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{prefix.rstrip('.') or 'configuration'} must be a section of 'key: value' lines, "
            f"got {values!r}. See configs/reference.yaml."
        )
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            remedy = did_you_mean(str(key), known)
            raise ConfigError(f"{prefix}{key} is not a setting. {remedy}")
    return kind(**{key: _convert(hints[key], item, prefix + key) for key, item in values.items()})


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, key + ".")
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            remedy = did_you_mean(str(value), [str(choice) for choice in arguments])
            raise ConfigError(f"{key} must be one of its choices, got {value!r}. {remedy}")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(arguments[0], item, f"{key}[{n}]") for n, item in enumerate(items))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} must be a mapping, got {value!r}. Write {{name: weight}}.")
        return {str(k): _convert(arguments[1], item, f"{key}.{k}") for k, item in value.items()}
    return _convert_scalar(hint, value, key)


def _convert_scalar(hint: type, value: Any, key: str) -> Any:
    """Accept 5 for a float and '3e-4', which YAML reads as text; refuse True for a number."""
    if hint is float and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if number - number == 0:  # neither NaN nor infinite
            return number
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    remedy = "Put it in quotes." if hint is str else "See configs/reference.yaml."
    raise ConfigError(f"{key} must be {words[hint]}, got {value!r}. {remedy}")


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)


def reference_yaml() -> str:
    """Every setting with its default and meaning: the text of ``configs/reference.yaml``."""
    lines = [
        "# Every setting, its default and its meaning. Made by `autosam config`; do not edit.",
        "",
    ]
    lines += _documented(Config(), "")
    return "\n".join(lines).rstrip() + "\n"


def _documented(settings: Any, indent: str) -> list[str]:
    meanings = _field_docstrings(type(settings))
    lines: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            summary = (inspect.getdoc(type(value)) or "").splitlines()[0]
            lines += ["", f"{indent}# {summary}", f"{indent}{field.name}:"]
            lines += _documented(value, indent + "  ")
            continue
        lines += [f"{indent}# {line}" for line in textwrap.wrap(meanings[field.name], 96)]
        text = yaml.safe_dump(_plain(value), default_flow_style=True, width=200).strip()
        lines.append(f"{indent}{field.name}: {text.removesuffix('...').strip()}")
    return lines


def _field_docstrings(kind: type) -> dict[str, str]:
    """The string under each field, which Python itself does not keep."""
    body = typing.cast(
        ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    ).body
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found
