"""The tree of things that can go wrong, and the words in which they are said.

AutoSamError
├── ConfigError (ValueError)             a setting, flag or YAML key
├── DataError (ValueError)               an image, mask, name or dataset
│   ├── ImageError                       one picture that cannot be read or used
│   └── SplitError                       a split that cannot be made or no longer matches
├── MissingPathError (FileNotFoundError) a file or folder that is not there
├── AccessError (PermissionError)        a private dataset or model, or a refused token
├── ModelError (ValueError)              SAM, a prompt network, a method
│   └── CheckpointError                  saved weights that cannot be used here
│       └── FingerprintError             saved weights that belong to another SAM
├── CacheError (OSError)                 the embedding cache
├── TrainingError (RuntimeError)         a run that cannot start, go on or resume
├── EngineError (RuntimeError)           workers that cannot start or go on
├── OutputError (OSError)                a result that cannot be written
└── MissingPackageError (ImportError)    an optional package that is not installed

Every message follows one template: ``<thing> must <rule>, got <value> (<which one>). <What to do.>``
"""

import difflib
from collections.abc import Iterable


class AutoSamError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with 2."""


class ConfigError(AutoSamError, ValueError):
    """A setting, flag or YAML key that cannot be used."""


class DataError(AutoSamError, ValueError):
    """An image, mask, name or dataset that cannot be used."""


class ImageError(DataError):
    """One picture that cannot be read or used."""


class SplitError(DataError):
    """A split that cannot be made, or that no longer matches its data."""


class MissingPathError(AutoSamError, FileNotFoundError):
    """A file or folder that is not there."""


class AccessError(AutoSamError, PermissionError):
    """A private dataset or model, or a token that was refused."""


class ModelError(AutoSamError, ValueError):
    """A SAM, prompt network or method that cannot be built."""


class CheckpointError(ModelError):
    """Saved weights that cannot be used here."""


class FingerprintError(CheckpointError):
    """Saved weights that belong to another SAM."""


class CacheError(AutoSamError, OSError):
    """An embedding cache that cannot be read or written."""


class TrainingError(AutoSamError, RuntimeError):
    """A training run that cannot start, go on or resume."""


class EngineError(AutoSamError, RuntimeError):
    """Workers that cannot start, or that die over one piece of work."""


class OutputError(AutoSamError, OSError):
    """A result that cannot be written."""


class PromptMismatchWarning(UserWarning):
    """A decoder is prompted at inference with another kind of prompt than it was trained with."""


class MissingPackageError(AutoSamError, ImportError):
    """An optional package that is not installed."""


def one_line(error: AutoSamError) -> str:
    """What an error says, without line breaks or the quotes that a KeyError puts round it."""
    return " ".join(str(error.args[-1] if error.args else error).split())


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The sentence that ends an error about an unknown word.

    Returns:
        ``"Did you mean 'river'?"`` when a choice is near, otherwise ``"Choose one of: ..."``.
    """
    known = sorted(choices)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Choose one of: {', '.join(known)}."
