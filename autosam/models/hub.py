"""The hub's client: a folder goes up, and what the hub refuses is said in our words."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Literal

from autosam.errors import AccessError, ConfigError
from autosam.files import PathLike

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
"""owner/name."""
Kind = Literal["model", "dataset"]

_UPLOADED: dict[Kind, tuple[str, ...]] = {
    "model": (
        "config.json", "model.safetensors", "preprocessor_config.json", "README.md", "sam/*", "coarse/*",
    ),
    "dataset": ("data/*.parquet", "README.md"),
}  # fmt: skip
_STALE: dict[Kind, str | None] = {"model": None, "dataset": "data/*.parquet"}
"""What an earlier upload may have left under other names, which would be read beside the new."""
_TRANSPORTS = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
_LOG_IN = "Log in with `hf auth login`, set HF_TOKEN, or pass token=."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upload:
    """What came of an upload."""

    address: str
    """Of the commit."""
    card_kept: bool
    """True when the repository had a card that was left as it is."""


@contextlib.contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Say what the hub's refusals mean.

    Raises:
        AccessError: Private, unknown, refused, or not reached.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise AccessError(
            f"{repository!r} is gated: ask for access on its page. {_LOG_IN}"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise AccessError(
            f"{repository!r} must be a folder here or a repository on the hub that you may read, got "
            f"neither. Check the name; a private one needs a login. {_LOG_IN}"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise AccessError(
            f"{repository!r} is not in the local hub cache and the hub cannot be reached. Go online, "
            "unset HF_HUB_OFFLINE, or pass a folder that was downloaded elsewhere."
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no status")
        raise AccessError(f"the hub refused {repository!r} with {status}. {_LOG_IN}") from error
    except Exception as error:  # the transport's own errors differ between the hub's versions
        if type(error).__module__.partition(".")[0] not in _TRANSPORTS:
            raise
        raise AccessError(
            f"the hub could not be reached for {repository!r} ({type(error).__name__}). "
            "Check the connection, or pass a folder."
        ) from error


def check_repository(repository: str) -> None:
    """Refuse what is no owner/name.

    Raises:
        ConfigError: As said above.
    """
    if not HUB_ID.match(repository):
        raise ConfigError(
            f"repository must be owner/name, got {repository!r}. Add your account name."
        )


def check_login(repository: str, token: str | None) -> None:
    """Refuse to go on without a login or without a network, before anything long is done.

    Raises:
        AccessError: There is no token, or the hub's client is offline.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise AccessError(
            f"a push must reach the hub, got HF_HUB_OFFLINE set ({repository}). Unset it."
        )
    if not (token or get_token()):
        raise AccessError(f"a push must be logged in, got no token ({repository}). {_LOG_IN}")


def upload(
    folder: PathLike, repository: str, *, kind: Kind, token: str | None, private: bool
) -> Upload:
    """Upload a folder in one commit, making the repository if need be.

    Of a dataset, the parquet files of earlier uploads go with that commit, and a card that is there
    stays: its owner may have written it. All other files of the repository are left alone.

    Args:
        folder: A checkpoint, or what `data.publishing` writes.
        repository: ``owner/name``.
        kind: What the folder is.
        token: Otherwise HF_TOKEN or the stored login is used.
        private: Only those whom its owner lets may see it.

    Raises:
        ConfigError: It is no owner/name, or the hub takes neither that name nor that card.
        AccessError: The hub refused or could not be reached, or a private push would be public.
    """
    from huggingface_hub import HfApi

    check_repository(repository)
    interface = HfApi(token=token)
    patterns = list(_UPLOADED[kind])
    try:
        with hub_errors(repository):
            interface.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
            if private:
                _check_private(interface.repo_info(repository, repo_type=kind), repository)
            kept = kind == "dataset" and interface.file_exists(
                repository, "README.md", repo_type=kind
            )
            commit = interface.upload_folder(
                repo_id=repository,
                repo_type=kind,
                folder_path=str(folder),
                allow_patterns=[one for one in patterns if not (kept and one == "README.md")],
                delete_patterns=_STALE[kind],
                commit_message=f"Upload {kind} with autosam",
            )
    except ValueError as error:  # the client's word for a name or a card that the hub does not take
        raise ConfigError(
            f"name and card must be as the hub wants them, got: {' '.join(str(error).split())} "
            f"({repository}). Change the name or the licence."
        ) from error
    return Upload(address=str(commit.commit_url), card_kept=kept)


def _check_private(found: object, repository: str) -> None:
    """An existing repository keeps its visibility, whatever was asked."""
    if not getattr(found, "private", False):
        raise AccessError(
            f"repository must be private to take a private push, got a public one ({repository}). "
            "Make it private in its settings, or choose another name."
        )
