"""Trained weights, their settings, and the fingerprint of the SAM they belong to: in and out.

A checkpoint is a folder: ``config.json``, ``model.safetensors`` (what was trained, nothing else),
``preprocessor_config.json``, ``README.md`` (the card), and ``sam/`` when it was bundled.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from autosam.config import Config, config_from_dict
from autosam.data.geometry import GEOMETRY_VERSION, PIXEL_MEAN, PIXEL_STD
from autosam.errors import (
    CheckpointError,
    ConfigError,
    FingerprintError,
    MissingPathError,
)
from autosam.files import PathLike, read_json, replacing, write_json, write_text
from autosam.models.autosam import PromptedSam
from autosam.models.card import write_card
from autosam.models.contract import MaskNetwork
from autosam.models.embedded import embedded_folder
from autosam.models.frozen_sam import Sam
from autosam.models.gauges import Gauges
from autosam.models.hub import HUB_ID, check_repository, hub_errors, upload
from autosam.models.methods import build_network, has_sam
from autosam.models.sam import load_sam, save_sam_hub
from autosam.models.weight_files import read_weights

FORMAT_VERSION = 1
COARSE = "coarse"
"""Folder, inside a checkpoint, of the model whose mask its prompts are made from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """How logits become a mask; both numbers are chosen on validation."""

    temperature: float = 1.0
    """Logits are divided by it before the sigmoid."""
    threshold: float = 0.5
    """Probability from which a pixel is water."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network ready to use, and what is known of it."""

    network: MaskNetwork
    config: Config
    decision: Decision
    facts: Mapping[str, Any]
    """What the run wrote down: split hash, scores, versions, hardware."""
    coarse: Mapping[str, Any] | None
    """The rule of the coarse mask that prompts are made from, as it was tuned; None where there is none."""
    gauges: Gauges
    """What the model can say of its own answers."""
    coarse_folder: Path | None
    """Checkpoint of the model whose mask is the coarse mask; None where there is none."""


def save_checkpoint(
    folder: PathLike,
    network: MaskNetwork,
    config: Config,
    *,
    decision: Decision | None = None,
    facts: Mapping[str, Any] | None = None,
    coarse: Mapping[str, Any] | None = None,
    gauges: Gauges | None = None,
    bundle: bool = False,
) -> Path:
    """Write a checkpoint folder; ``config.json`` comes last, so a folder that has it is whole.

    Args:
        folder: Made if it is not there; other files in it are left alone.
        network: Whose trained parts are written.
        config: With which it can be built again.
        decision: Temperature and threshold; the neutral ones by default.
        facts: JSON values for the card and for `load_checkpoint`.
        coarse: The rule of the coarse mask. A model in its place is a checkpoint in ``coarse/``, which
            the caller writes first.
        gauges: What the model can say of its own answers; nothing by default.
        bundle: Also write the SAM itself, so that the folder needs nothing else.

    Raises:
        OutputError: The folder cannot be written.
    """
    folder, facts = Path(folder), dict(facts or {})
    decision = decision or Decision()
    state = {
        key: value.detach().cpu().contiguous() for key, value in network.trained_state().items()
    }
    with replacing(folder / "model.safetensors") as beside:
        save_file(state, beside, metadata={"format": "pt"})
    description: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "library_name": "autosam",
        "method": network.method,
        "config": config.to_dict(),
        "decision": dataclasses.asdict(decision),
        "facts": facts,
        "coarse": None if coarse is None else dict(coarse),
        "gauges": (gauges or Gauges()).to_dict(),
    }
    if isinstance(network, PromptedSam):
        sam = network.sam
        description["sam"] = {"name": sam.name, "fingerprint": sam.fingerprint, "bundled": bundle}
        if bundle:
            save_sam_hub(sam, folder / "sam")
    write_json(folder / "preprocessor_config.json", _preprocessor(network.side))
    write_text(folder / "README.md", write_card(description))
    write_json(folder / "config.json", description)
    return folder


def _preprocessor(side: int) -> dict[str, Any]:
    """In the words of transformers' SamImageProcessor, of which `data.geometry` is the equal."""
    return {
        "image_processor_type": "SamImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in PIXEL_MEAN],
        "image_std": [value / 255 for value in PIXEL_STD],
        "do_pad": True,
        "pad_size": {"height": side, "width": side},
        "geometry_version": GEOMETRY_VERSION,
    }


def load_checkpoint(
    source: PathLike,
    *,
    sam: Sam | str | None = None,
    revision: str | None = None,
    token: str | None = None,
    encoder: bool = True,
) -> Checkpoint:
    """Load a folder or hub id, key for key.

    Args:
        source: 'river-nano', a folder, or ``owner/name`` on the hub.
        sam: In the place of the one that was trained with: a loaded SAM, a name or a path.
        revision: Branch, tag or commit on the hub.
        token: For a private model.
        encoder: False leaves SAM's image encoder out of memory.

    Raises:
        MissingPathError: There is no such folder, or it holds no checkpoint.
        CheckpointError: A file is damaged or does not fit.
        FingerprintError: The SAM is another than the one that was trained with.
        AccessError: The hub refused or could not be reached.
    """
    folder = _local_folder(source, revision=revision, token=token)
    description = _read_description(folder)
    config = config_from_dict(description["config"])
    loaded_sam = _load_matching_sam(folder, config, description, sam, token, encoder)
    network = build_network(config, sam=loaded_sam, encoder=encoder, pretrained=False)
    network.load_trained_state(read_weights(folder / "model.safetensors"))
    return Checkpoint(
        network=network.eval(),
        config=config,
        decision=Decision(**description["decision"]),
        facts=description["facts"],
        coarse=description.get("coarse"),
        gauges=Gauges.from_dict(description.get("gauges")),
        coarse_folder=folder / COARSE if (folder / COARSE / "config.json").is_file() else None,
    )


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.is_dir():
        raise MissingPathError(
            f"checkpoint must be an existing folder, got {folder}. Check the path."
        )
    if not path.is_file():
        found = ", ".join(sorted(item.name for item in folder.iterdir())[:5]) or "nothing"
        raise MissingPathError(
            f"checkpoint must hold config.json, got {folder} with {found}. "
            "Give the folder that `autosam train` ended in; a run that was cut off has none yet: "
            "go on with `autosam train --resume`."
        )
    description = read_json(path, what="checkpoint configuration")
    keys = {"format_version", "config", "decision", "facts"}
    if not isinstance(description, dict) or not keys <= description.keys():
        raise CheckpointError(
            f"checkpoint configuration must hold {', '.join(sorted(keys))}, got {path}. "
            "It was not written by autosam: a plain SAM is loaded with sam=..., not as a checkpoint."
        )
    if description["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint must have format {FORMAT_VERSION}, got {description['format_version']} "
            f"({path}). Update autosam: pip install --upgrade autosam."
        )
    try:
        config_from_dict(description["config"])
        Decision(**description["decision"])
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"checkpoint must be readable, got {path}: {error}") from error
    return description


def _load_matching_sam(
    folder: Path,
    config: Config,
    description: Mapping[str, Any],
    sam: Sam | str | None,
    token: str | None,
    encoder: bool,
) -> Sam | None:
    if not has_sam(config):
        return None
    trained_with = description["sam"]
    if sam is None and trained_with["bundled"]:
        sam = str(folder / "sam")
    if not isinstance(sam, Sam):
        revision = (config.sam.revision or None) if sam is None else None
        name = config.sam.name if sam is None else sam
        sam = load_sam(name, revision=revision, token=token, encoder=encoder)
    if sam.fingerprint != trained_with["fingerprint"]:
        raise FingerprintError(
            f"SAM must be the one the checkpoint was trained with, {trained_with['name']!r} "
            f"({trained_with['fingerprint'][:12]}), got {sam.name!r} ({sam.fingerprint[:12]}). "
            "Pass sam= with the same weights, in hub or Meta format."
        )
    return sam


def _local_folder(source: PathLike, *, revision: str | None, token: str | None) -> Path:
    folder = embedded_folder(source) or Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(
            f"model must be the folder of a run or an ONNX file, got the file {folder}. "
            "Give the folder that a run lies in."
        )
    if not HUB_ID.match(str(source)):
        raise MissingPathError(
            "model must be 'river-nano', the existing folder of a run, an ONNX file or a hub id "
            f"owner/name, got {str(source)!r}. Check the path."
        )
    with hub_errors(str(source)):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(source), revision=revision, token=token))


def push_checkpoint(
    folder: PathLike, repository: str, *, token: str | None = None, private: bool = False
) -> str:
    """Upload a checkpoint folder to the hub, making the repository if need be.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: The repository is no owner/name, or the hub does not take the name.
        AccessError: The hub refused or could not be reached, or a private push would be public.
    """
    check_repository(repository)
    _read_description(Path(folder))
    return upload(folder, repository, kind="model", token=token, private=private).address


def describe(folder: PathLike) -> dict[str, Any]:
    """What a checkpoint folder, or 'river-nano', says of itself, without building anything."""
    return _read_description(embedded_folder(folder) or Path(folder))
