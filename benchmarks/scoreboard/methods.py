"""The rows of the scoreboard: what is trained, and under which prompts it is judged."""

import dataclasses
import fnmatch
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autosam.errors import ConfigError, did_you_mean

OWN = "autosam"
"""The run whose masks prompt others ("own model")."""
PROMPTED = ("null", "full box", "coarse", "own model", "oracle")
"""Where the prompts of a method with points or a box may come from; 'oracle' is the true mask."""
TABLE = Path(__file__).with_name("methods.yaml")
STUDIES = ("main", "prompts", "data", "noise", "networks", "refine", "splits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One row: how it differs from the suite's configuration."""

    name: str
    studies: tuple[str, ...]
    """Of which tables it is a part."""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sources: tuple[str, ...] = ("learnt",)
    """Where prompts come from when it is judged: 'learnt', 'none' (it takes no prompt), or of `PROMPTED`."""
    share: float = 1.0
    """Of the training pictures."""
    adapter: str = ""
    """module:Class of a model that is not a run of ours; `values` are then unused."""
    shipped: str = ""
    """A trained model that is only judged."""
    sam: bool = True
    """False where the suite's SAM has no part in it."""
    has_seen: tuple[str, ...] = ()
    """Suites whose test pictures the weights were trained on: a figure there is no result."""


def read_methods(path: Path = TABLE) -> tuple[Method, ...]:
    """The table, in its order."""
    rows = []
    for values in yaml.safe_load(path.read_text()):
        if values.get("sources") == "PROMPTED":
            values["sources"] = PROMPTED
        for key in ("studies", "sources", "has_seen"):
            if key in values:
                values[key] = tuple(values[key])
        rows.append(Method(**values))
    return tuple(rows)


def foreign_method(adapter: str) -> Method:
    """A row for somebody else's model.

    Args:
        adapter: ``module:Class`` that can be imported. The class is called without arguments; it may have
            ``fit(training, validation, *, seed)`` on sequences of samples, and must turn a
            (height, width, 3) uint8 RGB image into a (height, width) array of probabilities of water.

    Raises:
        ConfigError: It cannot be imported, or its objects cannot be called.
    """
    load_adapter(adapter)
    name = adapter.rpartition(":")[2]
    return Method(name=name, studies=("main",), adapter=adapter, sources=("none",), sam=False)


def load_adapter(adapter: str) -> type:
    """The class of ``module:Class``.

    Raises:
        ConfigError: It cannot be imported, or its objects cannot be called.
    """
    module, colon, name = adapter.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--add must be module:Class that can be imported, got {adapter!r} ({error}). "
            "Run where the module can be found, for example with PYTHONPATH=."
        ) from error
    if not isinstance(found, type) or "__call__" not in dir(found):
        raise ConfigError(
            f"--add must be module:Class of a class with __call__(image), got {adapter!r}. "
            "See benchmarks/scoreboard/pixel_methods.py for two examples."
        )
    return found


def choose_methods(wanted: Sequence[str], added: Sequence[Method] = ()) -> tuple[Method, ...]:
    """Methods by name, pattern or study, in the order of the table; the study 'main' where none is named.

    Raises:
        ConfigError: A name is neither.
    """
    every = (*read_methods(), *added)
    names = [method.name for method in every]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--add must bring a new name, got {twice[0]!r} again. Rename the class.")
    chosen = {method.name for method in added}
    for pattern in wanted or ("main",):
        found = {m.name for m in every if pattern in m.studies or fnmatch.fnmatch(m.name, pattern)}
        if not found:
            raise ConfigError(
                f"--methods must name methods or studies, got {pattern!r}. "
                f"{did_you_mean(pattern, (*names, *STUDIES))}"
            )
        chosen |= found
    borrowing = [m.name for m in every if m.name in chosen and "own model" in m.sources]
    if borrowing and OWN not in chosen:
        raise ConfigError(
            f"--methods must name {OWN} too, whose masks prompt others, got {borrowing[0]!r} without "
            f"it. Add it: --methods {OWN},{','.join(wanted)}"
        )
    return tuple(method for method in every if method.name in chosen)
