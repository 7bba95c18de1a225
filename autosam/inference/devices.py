"""Where to compute: the device asked for, or the best there is."""

import torch

from autosam.errors import ModelError


def choose_device(device: str | None) -> torch.device:
    """The device asked for, or the best there is: CUDA, then Apple's, then the processor.

    Raises:
        ModelError: The device is unknown or not there.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"device must be one that this machine has, got {device!r} ({reason}). Try 'cpu'."
        ) from error
    return chosen
