"""What `autosam push` does: see what a folder is, make it ready, and upload it."""

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosam.data.images import is_image
from autosam.data.publishing import PublishedPart, open_parts, write_hub_folder
from autosam.data.rows import parts_of
from autosam.data.splits import read_split
from autosam.errors import ConfigError, MissingPathError
from autosam.files import PathLike
from autosam.inference.segmenter import AutoSam
from autosam.models.checkpoints import push_checkpoint
from autosam.models.hub import Kind, check_login, check_repository, upload
from autosam.recipes.encoding import Say

_PUBLISHED_FOLDERS = ("images", "masks", "valid")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was uploaded, and where to."""

    kind: Kind
    repository: str
    address: str
    """Of the commit."""
    parts: Mapping[str, PublishedPart]
    """Of a dataset."""
    left_out: tuple[str, ...]
    """Folders of pictures in the source that are no part of a published dataset: bands."""
    card_kept: bool
    """True when the dataset's page had a card, which was left as it is."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)

    def sentence(self) -> str:
        """A line or two for the console."""
        counts = ", ".join(f"{found.pictures} {part}" for part, found in self.parts.items())
        lines = [f"{self.kind} pushed{f' ({counts})' if counts else ''}: {self.address}"]
        if self.left_out:
            lines.append(f"Not published: {', '.join(f'{name}/' for name in self.left_out)}")
        if self.card_kept:
            lines.append("Its card was there and is kept: see that licence and counts still hold.")
        return "\n".join(lines)


def push(
    source: PathLike,
    repository: str,
    *,
    private: bool = False,
    bundle: bool = False,
    split: PathLike | None = None,
    licence: str | None = None,
    token: str | None = None,
    say: Say = lambda line: None,
) -> Pushed:
    """Upload a model or a dataset; nothing in the source changes.

    Args:
        source: A run or checkpoint; a folder with images/ and perhaps masks/ and valid/; or an Elwha
            dataset's folder, of parquet files or from ``save_to_disk``.
        repository: ``owner/name``; made if it is not there.
        private: Only those whom its owner lets may see it.
        bundle: For a model: the SAM goes along, so that it needs nothing else.
        split: For a dataset: a manifest that divides it into train, validation and test.
        licence: For a dataset: the hub's word for it, such as cc-by-4.0.
        token: Otherwise HF_TOKEN or the stored login is used.
        say: Told what happens next.

    Raises:
        ConfigError: The repository is no owner/name, an option is missing or for the other kind, or the hub
            does not take the licence.
        MissingPathError: There is no such folder, or nothing in it to push.
        AccessError: There is no login, the hub refused or could not be reached, or a private push would
            be public.
        DataError, SplitError, CheckpointError: What their names say.
    """
    check_repository(repository)
    folder = Path(source).expanduser()
    kind = _kind_of(folder)
    _check_options(kind, bundle=bundle, split=split, licence=licence)
    check_login(repository, token)
    if kind == "model":
        address = _push_model(folder, repository, private=private, bundle=bundle, token=token)
        return Pushed(
            kind=kind, repository=repository, address=address, parts={}, left_out=(), card_kept=False
        )  # fmt: skip
    manifest = None if split is None else read_split(split)
    parts = open_parts(folder, manifest)
    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch) / "dataset"
        say(f"Writing {sum(len(members) for members in parts.values())} pictures as parquet files.")
        published = write_hub_folder(
            ready, parts, title=repository, licence=str(licence), split=manifest
        )
        say(f"Uploading {sum(path.stat().st_size for path in ready.rglob('*')) / 1e6:.1f} MB.")
        uploaded = upload(ready, repository, kind=kind, token=token, private=private)
    return Pushed(
        kind=kind,
        repository=repository,
        address=uploaded.address,
        parts=published,
        left_out=_left_out(folder),
        card_kept=uploaded.card_kept,
    )


def _kind_of(folder: Path) -> Kind:
    """By what lies in it."""
    if not folder.is_dir():
        raise MissingPathError(f"source must be an existing folder, got {folder}. Check the path.")
    if (folder / "images").is_dir():
        return "dataset"
    if (folder / "config.json").is_file():
        return "model"
    if parts_of(folder):
        return "dataset"
    found = ", ".join(sorted(item.name for item in folder.iterdir())[:5]) or "nothing"
    raise MissingPathError(
        f"source must hold config.json (a finished run), images/, or a dataset's parquet or saved files, "
        f"got {folder} with {found}. A run that was cut off goes on with `autosam train --resume`."
    )


def _check_options(
    kind: Kind, *, bundle: bool, split: PathLike | None, licence: str | None
) -> None:
    if kind == "model":
        for option, given in (("--split", split), ("--licence", licence)):
            if given is not None:
                raise ConfigError(
                    f"{option} must be for a dataset, got {str(given)!r} for a model. Leave it out."
                )
        return
    if bundle:
        raise ConfigError("--bundle must be for a model, got a dataset. Leave it out.")
    if licence is None or not _LICENCE.fullmatch(licence):
        raise ConfigError(
            f"--licence must be the hub's word for the pictures' licence, got {licence or 'none'!r}. "
            "Give for example cc-by-4.0, cc0-1.0 or other; unknown if you do not know it."
        )


def _push_model(
    folder: Path, repository: str, *, private: bool, bundle: bool, token: str | None
) -> str:
    if not bundle:
        return push_checkpoint(folder, repository, token=token, private=private)
    model = AutoSam.from_pretrained(folder, token=token)
    return model.push_to_hub(repository, token=token, private=private, bundle=True)


def _left_out(folder: Path) -> tuple[str, ...]:
    if not (folder / "images").is_dir():
        return ()
    others = (item for item in sorted(folder.iterdir()) if item.name not in _PUBLISHED_FOLDERS)
    return tuple(
        item.name for item in others if item.is_dir() and any(is_image(one) for one in item.iterdir())
    )  # fmt: skip
