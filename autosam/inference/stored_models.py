"""Trained models in and out: a run's folder, the hub, an exported file."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autosam.errors import ModelError
from autosam.files import PathLike
from autosam.inference.coarse_models import ModelMask
from autosam.models.autosam import PromptedSam
from autosam.models.checkpoints import (
    COARSE,
    describe,
    load_checkpoint,
    push_checkpoint,
    save_checkpoint,
)
from autosam.models.contract import MaskNetwork
from autosam.models.exported_network import SUFFIX, ExportedNetwork, load_exported
from autosam.models.frozen_sam import Sam
from autosam.prompts.coarse_masks import CoarseMask
from autosam.prompts.coarse_rules import coarse_from_dict

if TYPE_CHECKING:
    from autosam.inference.segmenter import AutoSam

Model = TypeVar("Model", bound="AutoSam")


def load_model(
    kind: type[Model],
    source: PathLike,
    *,
    sam: Sam | str | None,
    revision: str | None,
    token: str | None,
    device: str | None,
    encoder: bool,
    runtime: str | None,
) -> Model:
    """As `AutoSam.from_pretrained`.

    Args:
        kind: What is built.
        source: As there, and so are the others.
        sam: In the place of the one that it names.
        revision: On the hub.
        token: For the hub.
        device: Where it predicts.
        encoder: False leaves SAM's image encoder out.
        runtime: What encodes on a processor.
    """
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise ModelError(
            f"model must be 'river-nano', the folder of a run, owner/name or an ONNX file, got {source!r}. "
            "Leave it out for river-nano."
        )
    if str(source).endswith(SUFFIX):
        return _exported(kind, source, runtime)
    loaded = load_checkpoint(source, sam=sam, revision=revision, token=token, encoder=encoder)
    coarse: CoarseMask | None = None
    if loaded.coarse_folder is not None:
        coarse = _coarse_model(kind, loaded.coarse_folder, loaded.network, sam, token, device)
    elif loaded.coarse is not None:
        coarse = coarse_from_dict(loaded.coarse)
    model = kind(
        loaded.config,
        network=loaded.network,
        decision=loaded.decision,
        facts=loaded.facts,
        coarse=coarse,
        gauges=loaded.gauges,
        device=device,
    )
    if runtime is not None:
        _set_runtime(model, runtime)
    return model


def _exported(kind: type[Model], path: PathLike, runtime: str | None) -> Model:
    """From an ONNX file."""
    if runtime not in (None, "auto", "onnx", "openvino", "openvino-bf16"):
        raise ModelError(
            "runtime must be 'onnx', 'openvino' or 'openvino-bf16' for an ONNX file, "
            f"got {runtime!r} ({path}). "
            "Leave it out, or load the run that the file was exported from."
        )
    by_openvino = runtime in ("openvino", "openvino-bf16")
    loaded = load_exported(path, compiler="openvino" if by_openvino else "onnx")
    model = kind(
        loaded.config,
        network=loaded.network,
        decision=loaded.decision,
        facts=loaded.facts,
        device="cpu",
    )
    if runtime is not None:
        _set_runtime(model, runtime)
    return model


def _set_runtime(model: "AutoSam", runtime: str) -> None:
    from autosam.inference.runtimes import set_runtime

    set_runtime(model, runtime)


def _coarse_model(
    kind: type[Model],
    folder: PathLike,
    network: MaskNetwork,
    sam: Sam | str | None,
    token: str | None,
    device: str | None,
) -> ModelMask:
    """A model as coarse mask; it does without an image encoder where ours is the same."""
    trained_with = describe(folder).get("sam")
    own = network.sam.fingerprint if isinstance(network, PromptedSam) else None
    shared = trained_with is not None and trained_with["fingerprint"] == own
    model = load_model(
        kind,
        folder,
        sam=sam if shared and not isinstance(sam, Sam) else None,
        revision=None,
        token=token,
        device=device,
        encoder=not shared,
        runtime=None,
    )
    return ModelMask(model)


def save_model(model: "AutoSam", folder: PathLike, *, bundle: bool) -> Path:
    """As `AutoSam.save_pretrained`."""
    return save_checkpoint(
        folder,
        model.network,
        model.config,
        decision=model.decision,
        facts=model.facts,
        coarse=_saved_coarse(model.coarse, Path(folder)),
        gauges=model.gauges,
        bundle=bundle,
    )


def _saved_coarse(coarse: CoarseMask | None, folder: Path) -> Mapping[str, Any] | None:
    """The coarse mask's rule; a model in its place is written into the folder."""
    if isinstance(coarse, ModelMask):
        coarse.model.save_pretrained(folder / COARSE)
        return None
    if coarse is None:
        return None
    to_dict = getattr(coarse, "to_dict", None)
    if to_dict is None:
        raise ModelError(
            f"coarse mask must be a rule or a trained model to be saved, got {coarse.name!r}. "
            "Save the model without it, and pass coarse= again after loading."
        )
    rule: Mapping[str, Any] = to_dict()
    return rule


def push_model(
    model: "AutoSam", repository: str, *, token: str | None, private: bool, bundle: bool
) -> str:
    """As `AutoSam.push_to_hub`."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, bundle=bundle)
        return push_checkpoint(folder, repository, token=token, private=private)


def weights_digest(network: MaskNetwork) -> str:
    """Hex SHA-256 of what was trained and of the SAM behind it."""
    if isinstance(network, ExportedNetwork):
        return network.fingerprint
    digest = hashlib.sha256()
    for key, tensor in sorted(network.trained_state().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    if isinstance(network, PromptedSam):
        digest.update(network.sam.fingerprint.encode())
    return digest.hexdigest()
