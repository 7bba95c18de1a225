"""SAM's processor of transformers: pictures, points and boxes to what its `SamModel` is called with.

Our own path from a picture to a square is `autosam.data.geometry`; this is for code written for transformers.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import SamConfig, SamImageProcessor, SamProcessor

from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from autosam.errors import AccessError, MissingPathError, ModelError, did_you_mean
from autosam.files import PathLike, read_json
from autosam.models.sam_sources import SHORT_NAMES

PUBLISHED_SIDE = 1024
"""Longest edge and padded side of all three published SAMs."""
_OWN_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where a processor is written; transformers 5 uses the second."""


def load_processor(name_or_path: PathLike, *, token: str | None = None) -> Any:
    """Load the processor that belongs to a SAM, without its weights.

    The three published SAMs share one, which is SAM's own preparation. So for them it is built here, and
    nothing is downloaded: pictures and prompts can be prepared where no hub is within reach.

    Args:
        name_or_path: 'base', 'large' or 'huge', or their ids facebook/sam-vit-*; a folder that holds
            preprocessor_config.json, or the config.json of a SAM, whose side is taken; or another hub id.
        token: For a private or gated model on the hub; by default the stored login or HF_TOKEN.

    Returns:
        transformers' ``SamProcessor``.

    Raises:
        ModelError: The name is unknown, the hub cannot be reached, or what was found is no SAM's processor.
        AccessError: The hub does not show this model to us.
        MissingPathError: A path is not there, or a folder holds neither file.
    """
    if not isinstance(name_or_path, str | os.PathLike) or not str(name_or_path):
        raise ModelError(
            f"SAM must be a short name, a folder or a hub id, got {name_or_path!r}. Try 'base'."
        )
    name, folder = str(name_or_path), Path(name_or_path).expanduser()
    if name in SHORT_NAMES:
        return _of_side(PUBLISHED_SIDE)
    if folder.is_dir():
        return _from_folder(folder)
    if folder.is_file() or folder.is_absolute() or name.startswith((".", "~")):
        raise MissingPathError(
            f"SAM processor must be a folder that exists, got {name!r}. Check the path."
        )
    if name in SHORT_NAMES.values():
        return _of_side(PUBLISHED_SIDE)
    if name.count("/") != 1:
        raise ModelError(
            "SAM must be a short name, a folder or a hub id such as facebook/sam-vit-base, "
            f"got {name!r}. {did_you_mean(name, SHORT_NAMES)}"
        )
    return _from_hub(name, token)


def _of_side(side: int) -> Any:
    """With the settings that facebook/sam-vit-base, -large and -huge were published with, at any side."""
    make: Any = SamProcessor  # without types in some versions of transformers
    return make(
        SamImageProcessor(
            size={"longest_edge": side},
            pad_size={"height": side, "width": side},
            image_mean=[value / 255 for value in PIXEL_MEAN],
            image_std=[value / 255 for value in PIXEL_STD],
        )
    )


def _from_hub(hub_id: str, token: str | None) -> Any:
    try:
        return _checked(SamProcessor.from_pretrained(hub_id, token=token), hub_id)
    except ModelError:
        raise
    except Exception as error:  # the transport's own errors differ between the hub's versions
        if {"GatedRepoError", "RepositoryNotFoundError"} & set(_kinds(error)):
            raise AccessError(
                f"SAM processor must be on the hub and open to you, got {hub_id!r} (not there, private or "
                "gated). Check the name; then run `hf auth login`, set HF_TOKEN or pass token=."
            ) from error
        raise ModelError(
            f"SAM processor must be on this machine or the hub within reach, got {hub_id!r} "
            f"({_first_line(error)}). Use 'base', 'large' or 'huge', which need no download, or a folder."
        ) from error


def _kinds(error: BaseException | None) -> Iterator[str]:
    """Names of an error's classes and of those that it came from: transformers wraps the hub's."""
    while error is not None:
        yield from (kind.__name__ for kind in type(error).__mro__)
        error = error.__cause__ or error.__context__


def _from_folder(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in _OWN_FILES):
        return _of_side(_side_of(folder))
    try:
        return _checked(SamProcessor.from_pretrained(folder, local_files_only=True), str(folder))
    except ModelError:
        raise
    except Exception as error:  # whatever transformers raises at another or a damaged file
        raise ModelError(
            f"folder must hold the processor of a SAM, got {folder} ({_first_line(error)}). "
            "Download it again, or use 'base'."
        ) from error


def _checked(processor: Any, where: str) -> Any:
    kind = type(processor.image_processor).__name__
    if not kind.startswith("SamImageProcessor"):
        raise ModelError(f"processor must be that of a SAM, got {kind} ({where}). Use 'base'.")
    return processor


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _side_of(folder: Path) -> int:
    """Of the SAM in a folder without a processor, as `save_pretrained` of a model alone leaves it."""
    config = read_json(folder / "config.json", what="SAM's config.json")
    if not isinstance(config, dict) or config.get("model_type") != "sam":
        raise ModelError(
            f"model must be a SAM (model_type 'sam'), got another ({folder}). "
            "Give a folder such as facebook/sam-vit-base has on the hub."
        )
    described: Any = SamConfig.from_dict(config)
    return int(described.vision_config.image_size)
