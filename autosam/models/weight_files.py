"""Published weight files: read without unpickling, and put into a backbone strictly, whole or truncated."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autosam.errors import CheckpointError, MissingPathError
from autosam.files import PathLike


def read_weights(path: PathLike) -> dict[str, Tensor]:
    """Read a state dict on the CPU from ``.safetensors``, or from PyTorch's ``.pth``, ``.pt`` or ``.bin``.

    A training checkpoint that holds the weights under ``state_dict``, and the ``module.`` that
    data-parallel training puts before each key, are unwrapped. Nothing is unpickled but tensors.

    Raises:
        MissingPathError: There is no such file.
        CheckpointError: The suffix is unknown, the file is damaged, or it holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(f"weights must be a file, got {path}. Check the path.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise CheckpointError(
            f"weights must end in .safetensors, .pth, .pt or .bin, got {path}. Convert them first."
        )
    return _tensors(_read_pytorch(path), path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"weights must be a whole safetensors file, got {path} ({error}). Copy it again."
        ) from error


def _read_pytorch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"weights must be a whole PyTorch file of tensors alone, got {path} ({reason}). "
            "Copy it again, or save the model's state_dict() instead of the model."
        ) from error


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(
            f"weights must map names to tensors, got {type(loaded).__name__} ({path}). "
            "Save the model's state_dict()."
        )
    foreign = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if foreign:
        raise CheckpointError(
            f"weights must map names to tensors, got other values under {foreign[:3]} ({path}). "
            "Save the model's state_dict()."
        )
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def load_strictly(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    complete: Collection[str],
    classifier: str,
    source: object,
) -> None:
    """Copy the weights that `model` has; what it lacks must belong to the complete network.

    So a file of the whole classification network fits a backbone that was cut off at some stage,
    while a file of any other network is refused. A classifier may be missing in the file, the
    model, or both; one that only the model has keeps its values.

    Args:
        model: The network, whole or cut off.
        state: Keyed as in the network's `state_dict`.
        complete: Every key of the whole network.
        classifier: What the keys of its classifier begin with.
        source: Where the weights come from, for the error message.

    Raises:
        CheckpointError: Keys are missing or left over, or shapes differ; nothing was copied.
    """
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.startswith(classifier + ".")]
    extra = sorted(set(state) - set(complete))
    wrong = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if missing or extra or wrong:
        raise CheckpointError(
            f"weights must match the network key for key, got {len(missing)} missing {missing[:3]}, "
            f"{len(extra)} left over {extra[:3]}, {len(wrong)} of another shape {wrong[:3]} ({source}). "
            "Give the file that was published for this very network."
        )
    model.load_state_dict({key: state.get(key, value) for key, value in own.items()})
