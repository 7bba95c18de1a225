"""Imports point one way, and importing is cheap."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import autosam

PACKAGE = Path(autosam.__file__).parent
ORDER = [
    {"errors"},
    {"files", "overlap", "wording"},
    {"plotting", "progress"},
    {"drawing"},
    {"types"},
    {"config"},
    {"data"},
    {"prompts"},
    {"models"},
    {"embeddings"},
    {"training", "evaluation", "maps"},
    {"inference"},
    {"recipes"},
    {"article"},
    {"app"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
ONE_HOME = {
    "transformers": "models",
    "timm": "models",
    "segmentation_models_pytorch": "models",
    "datasets": "data",
    "accelerate": "training",
    "typer": "cli",
    "onnx": "models",
    "onnxruntime": "models",
    "openvino": "models",
    "rasterio": "maps",
    "pyogrio": "maps",
    "geopandas": "maps",
    "shapely": "maps",
    "pyproj": "maps",
    "pystac": "maps",
    "ray": "inference",
    "starlette": "app",
    "uvicorn": "app",
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            modules.append(node.module or "")
            if node.module == "autosam":
                modules += [f"autosam.{alias.name}" for alias in node.names]
    return modules


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(path):
    own = room_of(path)
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "autosam" and len(parts) > 1 and parts[1] in RANK and parts[1] != own:
            assert RANK[parts[1]] < RANK[own], f"{own} must not import {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_heavy_library_is_known_in_one_room(path):
    for module in imported_modules(path):
        home = ONE_HOME.get(module.split(".")[0])
        assert home in (None, room_of(path)), f"{module} belongs in {home}"


def test_no_room_is_named_after_nothing():
    vague = {"utils", "helpers", "misc", "common", "base", "core"}
    assert not {path.stem for path in SOURCES} & vague


def run_python(code: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return answer.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = "('torch', 'transformers', 'timm', 'datasets', 'cv2', 'matplotlib')"
    code = f"import autosam, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_the_command_line_shows_help_without_torch():
    code = (
        "import sys; from autosam.cli import run; code = run(['--help']); "
        "print(code, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert run_python(code).splitlines()[-1] == "0 False False"


def test_the_segmenter_needs_no_training_libraries():
    code = (
        "import autosam, sys; autosam.AutoSam; "
        "print([n for n in ('datasets', 'accelerate', 'matplotlib', 'rich') if n in sys.modules])"
    )
    assert "datasets" not in run_python(code)
