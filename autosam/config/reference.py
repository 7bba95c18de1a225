"""Every setting with its default and its meaning, read off the strings under the fields."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from typing import Any

import yaml

from autosam.config.whole import Config, plain


def reference_yaml() -> str:
    """Every setting with its default and meaning: the text of ``configs/reference.yaml``."""
    lines = [
        "# Every setting, its default and its meaning. Made by `autosam config`; do not edit.",
        "",
    ]
    lines += _documented(Config(), "")
    return "\n".join(lines).rstrip() + "\n"


def _documented(settings: Any, indent: str) -> list[str]:
    meanings = _field_docstrings(type(settings))
    lines: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            summary = (inspect.getdoc(type(value)) or "").splitlines()[0]
            lines += ["", f"{indent}# {summary}", f"{indent}{field.name}:"]
            lines += _documented(value, indent + "  ")
            continue
        lines += [f"{indent}# {line}" for line in textwrap.wrap(meanings[field.name], 96)]
        text = yaml.safe_dump(plain(value), default_flow_style=True, width=200).strip()
        lines.append(f"{indent}{field.name}: {text.removesuffix('...').strip()}")
    return lines


def _field_docstrings(kind: type) -> dict[str, str]:
    """The string under each field, which Python itself does not keep."""
    body = typing.cast(
        ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    ).body
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found
