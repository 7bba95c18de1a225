"""YAML and plain values in, a checked configuration out, and back."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from autosam.config.whole import Config
from autosam.errors import ConfigError, MissingPathError, did_you_mean
from autosam.files import PathLike


def load_config(path: PathLike | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file of differences from the defaults, then apply ``section.key=value`` overrides.

    Args:
        path: The file; None for the defaults alone.
        overrides: As after ``--set``: values are YAML, so lists and numbers are written plainly.

    Raises:
        MissingPathError: There is no such file.
        ConfigError: The file is not a YAML mapping, or a key or value cannot be used.
    """
    values: dict[str, Any] = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(values, override)
    return config_from_dict(values)


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """Build and check a configuration from plain values.

    Raises:
        ConfigError: A key is unknown or a value cannot be used.
    """
    return typing.cast(Config, _build(Config, values, ""))


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise ConfigError(f"configuration must be a YAML file, got the folder {path}. Name a file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingPathError(
            f"configuration must exist, got {path}. Check the path, or see configs/."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} must be YAML, got: {reason}. Mend that line.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must hold 'key: value' lines, got a {type(values).__name__}. "
            "See configs/reference.yaml."
        )
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set must be key=value, got {override!r}. Try --set train.epochs=5.")
    *sections, last = key.strip().split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {section} is a value, not a section. Set it itself.")
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key} must be a YAML value, got {text!r}. Quote it.") from error


def _build(kind: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{prefix.rstrip('.') or 'configuration'} must be a section of 'key: value' lines, "
            f"got {values!r}. See configs/reference.yaml."
        )
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            remedy = did_you_mean(str(key), known)
            raise ConfigError(f"{prefix}{key} is not a setting. {remedy}")
    return kind(**{key: _convert(hints[key], item, prefix + key) for key, item in values.items()})


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, key + ".")
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            remedy = did_you_mean(str(value), [str(choice) for choice in arguments])
            raise ConfigError(f"{key} must be one of its choices, got {value!r}. {remedy}")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(arguments[0], item, f"{key}[{n}]") for n, item in enumerate(items))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} must be a mapping, got {value!r}. Write {{name: weight}}.")
        joined = [k for k, item in value.items() if item is None and ":" in str(k)]
        if joined:  # to YAML "bce:1" is a name without a value
            raise ConfigError(
                f"{key} must be a mapping, got {joined[0]!r} in it. Write a space after each colon."
            )
        return {str(k): _convert(arguments[1], item, f"{key}.{k}") for k, item in value.items()}
    return _convert_scalar(hint, value, key)


def _convert_scalar(hint: type, value: Any, key: str) -> Any:
    """Accept 5 for a float and '3e-4', which YAML reads as text; refuse True for a number."""
    if hint is float and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if number - number == 0:  # neither NaN nor infinite
            return number
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    remedy = "Put it in quotes." if hint is str else "See configs/reference.yaml."
    raise ConfigError(f"{key} must be {words[hint]}, got {value!r}. {remedy}")


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
