"""Where a SAM's weights come from: a short name, the hub, a local folder, or Meta's .pth file."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autosam.errors import (
    AccessError,
    CheckpointError,
    MissingPathError,
    ModelError,
    did_you_mean,
)
from autosam.files import read_json
from autosam.models.embedded import EMBEDDED_FOLDERS, embedded_folder
from autosam.models.sam_weights import (
    ENCODER_PREFIX,
    POSITIONAL_KEY,
    TIED_POSITIONAL_KEY,
    Shape,
    canonical_from_meta,
    config_from_shapes,
    tensor_digest,
)

SHORT_NAMES = {
    "base": "facebook/sam-vit-base",
    "large": "facebook/sam-vit-large",
    "huge": "facebook/sam-vit-huge",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WAYS_OUT = (
    "On another machine, download config.json and model.safetensors and give their folder here, "
    "or give one of Meta's .pth files."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamSource:
    """A SAM that was found and not yet read."""

    where: str
    """For messages: the folder, the file or the hub id."""
    config: Mapping[str, Any]
    """As in a hub `config.json`."""
    tensors: Mapping[str, Tensor]
    """By canonical name, each read from the disk when it is asked for."""


class SafetensorsFolder(Mapping[str, Tensor]):
    """The weights of a folder in hub format by canonical name, one in memory at a time."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[Path, Any] = {}
        self._places = {_canonical(key): (path, key) for key, path in self._find(folder)}

    def _find(self, folder: Path) -> Iterator[tuple[str, Path]]:
        whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if whole.is_file():
            stored = self._open(whole).keys()
            yield from ((key, whole) for key in stored)
        elif index.is_file():
            listed = read_json(index, what="index of weight shards")
            weight_map = listed.get("weight_map") if isinstance(listed, dict) else None
            if not isinstance(weight_map, dict):
                raise CheckpointError(_damaged(index, ValueError("no weight_map")))
            yield from ((key, folder / name) for key, name in weight_map.items())
        else:
            raise MissingPathError(_no_weights(folder))

    def _open(self, path: Path) -> Any:
        if path not in self._files:
            if not path.is_file():
                raise MissingPathError(
                    f"weight shard must exist, got {path}. Download the whole folder again."
                )
            try:
                self._files[path] = safe_open(str(path), framework="pt", device="cpu")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(_damaged(path, error)) from error
        return self._files[path]

    def __getitem__(self, key: str) -> Tensor:
        path, stored = self._places[key]
        try:
            tensor: Tensor = self._open(path).get_tensor(stored)
        except SafetensorError as error:
            raise CheckpointError(_damaged(path, error)) from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def find_sam(name_or_path: str, *, revision: str | None, token: str | None) -> SamSource:
    """Find a SAM by short name, path or hub id, in this order.

    Raises:
        ModelError: The name is unknown, the hub cannot be reached, or it is no SAM.
        AccessError: The hub does not show this model to us.
        MissingPathError: A path is not there, or a folder lacks weights.
        CheckpointError: A file is damaged.
    """
    path = Path(name_or_path).expanduser()
    embedded = embedded_folder(name_or_path)
    if embedded is not None:
        return _from_folder(embedded / "sam")
    if name_or_path in SHORT_NAMES:
        return _from_hub(SHORT_NAMES[name_or_path], revision=revision, token=token)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        return _from_meta_file(path)
    if path.suffix in (".pth", ".pt") or path.is_absolute() or name_or_path.startswith((".", "~")):
        raise MissingPathError(
            f"SAM must be a file or folder that exists, got {path}. Check the path."
        )
    if _HUB_ID.fullmatch(name_or_path):
        return _from_hub(name_or_path, revision=revision, token=token)
    raise ModelError(
        "SAM must be a short name, a hub id such as facebook/sam-vit-base, a folder or a .pth file, "
        f"got {name_or_path!r}. {did_you_mean(name_or_path, ['nano', *EMBEDDED_FOLDERS, *SHORT_NAMES])}"
    )


def read_weights(
    source: SamSource, shapes: Mapping[str, Shape], *, encoder: bool
) -> tuple[dict[str, Tensor], dict[str, bytes]]:
    """Read the weights one at a time, and digest each on its way.

    Args:
        source: Where they are.
        shapes: What the architecture asks for, by canonical name.
        encoder: False digests the image encoder without keeping it.

    Returns:
        The float32 weights and the digest of every weight, both by canonical name.

    Raises:
        CheckpointError: A weight is missing, left over, of another shape, or no finite number.
    """
    missing = sorted(shapes.keys() - source.tensors.keys())
    extra = sorted(source.tensors.keys() - shapes.keys())
    if missing or extra:
        raise CheckpointError(
            "weights must match SAM's architecture key for key, "
            f"got {len(missing)} missing {missing[:3]} and {len(extra)} left over {extra[:3]} "
            f"({source.where}). Give a plain SAM of the first generation."
        )
    state: dict[str, Tensor] = {}
    digests: dict[str, bytes] = {}
    for key, shape in shapes.items():
        tensor = source.tensors[key]
        _check_tensor(key, tensor, shape, where=source.where)
        digests[key] = tensor_digest(tensor)
        if encoder or not key.startswith(ENCODER_PREFIX):
            # A copy, so that the file may be replaced while the model lives.
            state[key] = tensor.to(torch.float32, copy=True)
        del tensor  # so that the next one is alone in memory
    return state, digests


def _check_tensor(key: str, tensor: Tensor, shape: Shape, *, where: str) -> None:
    if tuple(tensor.shape) != shape:
        raise CheckpointError(
            f"weight {key} must have shape {shape}, got {tuple(tensor.shape)} ({where}). "
            "Its config.json belongs to another model: download both again."
        )
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(
            f"weight {key} must hold finite floating-point numbers, got {tensor.dtype} ({where}). "
            "The file is damaged or quantised: download the original again."
        )


def _from_folder(folder: Path) -> SamSource:
    config = read_json(folder / "config.json", what="SAM's config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "sam":
        raise ModelError(
            f"model must be a SAM (model_type 'sam'), got model_type {kind!r} ({folder}). "
            "Give a folder such as facebook/sam-vit-base has on the hub."
        )
    return SamSource(where=str(folder), config=config, tensors=SafetensorsFolder(folder))


def _from_meta_file(path: Path) -> SamSource:
    if path.suffix == ".safetensors":
        raise ModelError(
            f"SAM must be a folder or a .pth file, got {path}. Give the folder that holds it, "
            "with config.json beside it."
        )
    state = _read_state(path)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(
            f"weights must be a mapping from names to tensors, got {type(state).__name__} ({path}). "
            "Give one of Meta's .pth files as it was published."
        )
    names = canonical_from_meta(state)
    tensors = {names[key]: tensor for key, tensor in state.items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    config = config_from_shapes(shapes, where=str(path))
    return SamSource(where=str(path), config=config, tensors=tensors)


def _read_state(path: Path) -> Any:
    """Read a file of tensors without ever running code that it carries."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            # Written by torch before 1.6, which cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, OSError, KeyError) as error:
        raise CheckpointError(_damaged(path, error)) from error


def _from_hub(hub_id: str, *, revision: str | None, token: str | None) -> SamSource:
    patterns = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
    folder = hub_folder(hub_id, patterns, revision=revision, token=token)
    try:
        return dataclasses.replace(_from_folder(folder), where=hub_id)
    except MissingPathError as error:
        raise MissingPathError(
            f"{error} It is the local copy of {hub_id!r}. {_WAYS_OUT}"
        ) from error


def hub_folder(
    hub_id: str, patterns: list[str], *, revision: str | None, token: str | None
) -> Path:
    """The local copy of a SAM on the hub, with those of its files that match a pattern.

    Raises:
        ModelError: The hub cannot be reached, or has no such revision.
        AccessError: It does not show this model to us.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(hub_id, revision=revision, token=token, allow_patterns=patterns)
        )
    except RevisionNotFoundError as error:
        raise ModelError(
            f"revision must be a branch, tag or commit of {hub_id!r}, got {revision!r}. "
            "Leave it out for the main branch."
        ) from error
    except Exception as error:  # the transport's own errors differ between the hub's versions
        response = error.response if isinstance(error, HfHubHTTPError) else None
        refused = response is not None and response.status_code in (401, 403)
        if refused or isinstance(error, GatedRepoError | RepositoryNotFoundError):
            raise AccessError(_refused(hub_id)) from error
        raise ModelError(_unreachable(hub_id, error)) from error


def _canonical(key: str) -> str:
    """Files written before transformers 5 may hold the positional matrix under its second name."""
    return POSITIONAL_KEY if key == TIED_POSITIONAL_KEY else key


def _refused(hub_id: str) -> str:
    return (
        f"SAM must be a model on the hub that you may read, got {hub_id!r} (not there, private, gated, "
        "or the token was refused). Check the name; for a private or gated model run `hf auth login`, "
        "set HF_TOKEN or pass token=."
    )


def _unreachable(hub_id: str, error: Exception) -> str:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    reason = "HF_HUB_OFFLINE is set" if offline else (str(error).strip().splitlines() or [""])[0]
    return f"SAM must be on this machine or the hub within reach, got {hub_id!r} ({reason}). {_WAYS_OUT}"


def _no_weights(folder: Path) -> str:
    if (folder / "pytorch_model.bin").is_file():
        return (
            f"weights must be safetensors, got pytorch_model.bin ({folder}). Convert them once: "
            f"`SamModel.from_pretrained({str(folder)!r}).save_pretrained(NEW_FOLDER)`."
        )
    return (
        f"folder must hold model.safetensors, got {folder}. Download the model's weights into it."
    )


def _damaged(path: Path, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return (
        f"weights must be readable, got {path} ({reason}). "
        "The file is damaged or of another kind: download it again."
    )
