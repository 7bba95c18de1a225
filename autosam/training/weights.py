"""Trained weights to a file, and the removal of what a killed run left half-written."""

import re
from pathlib import Path

from safetensors.torch import save_file

from autosam.files import replacing
from autosam.models.contract import MaskNetwork

_LEFTOVER = re.compile(r"\.(best|last|history|times|curves)\.[0-9a-f]{8}\.\w+|\.tmp\w{6}")
"""The second kind is safetensors' own, which it renames to what it was told to write."""


def write_weights(path: Path, network: MaskNetwork) -> None:
    """Write `trained_state` as safetensors in one step; equal weights give equal bytes.

    Raises:
        OutputError: The file cannot be written.
    """
    # A clone of its own for each: safetensors refuses tensors that share memory.
    state = {
        key: tensor.detach().cpu().clone().contiguous()
        for key, tensor in network.trained_state().items()
    }
    with replacing(path) as beside:
        # One key and no more: safetensors writes several in an order that changes.
        save_file(state, beside, metadata={"format": "pt"})


def remove_leftovers(directory: Path) -> None:
    """Delete the half-written files that a killed run left beside its own."""
    if directory.is_dir():
        for path in directory.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)
