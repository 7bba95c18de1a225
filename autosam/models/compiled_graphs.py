"""ONNX graphs on the runtimes that compile them: the only file that knows onnxruntime and OpenVINO."""

import functools
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from autosam.errors import CheckpointError, MissingPackageError

Compiler = Literal["onnx", "openvino"]
PACKAGES: Mapping[str, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""That a compiler needs."""
Graph = Callable[[np.ndarray], np.ndarray]
"""Of one input and one output."""


def is_installed(compiler: Compiler) -> bool:
    """Whether graphs can be compiled so."""
    return importlib.util.find_spec(PACKAGES[compiler]) is not None


def check_installed(compiler: Compiler) -> None:
    """Refuse a compiler that is not here.

    Raises:
        MissingPackageError: It is not installed.
    """
    if not is_installed(compiler):
        raise MissingPackageError(
            f"{PACKAGES[compiler]} must be installed to run on {compiler!r}. "
            f"Install it: pip install 'autosam[{compiler}]'."
        )


def compiler_version(compiler: Compiler) -> str:
    """Of a compiler that is installed."""
    return str(importlib.import_module(PACKAGES[compiler]).__version__)


def compile_graph(path: Path, compiler: Compiler, *, half: bool = False) -> Graph:
    """Make a graph ready to run on as many threads as torch has.

    Args:
        path: An ONNX file of one input and one output.
        compiler: Which.
        half: Let OpenVINO compute in bfloat16, onnxruntime has none. OpenVINO is always told which
            format to take, for by itself it would choose by the processor.

    Raises:
        MissingPackageError: The compiler is not installed.
        CheckpointError: The file is damaged, or is no such graph.
    """
    check_installed(compiler)
    return _by_onnxruntime(path) if compiler == "onnx" else _by_openvino(path, half=half)


def _by_onnxruntime(path: Path) -> Graph:
    session = _session(path)
    name = session.get_inputs()[0].name

    def run(values: np.ndarray) -> np.ndarray:
        answer: np.ndarray = session.run(None, {name: values})[0]
        return answer

    return run


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no class but this
        raise _damaged(path, error) from error
    if len(session.get_inputs()) != 1 or len(session.get_outputs()) != 1:
        raise CheckpointError(
            f"graph must have one input and one output, got {len(session.get_inputs())} and "
            f"{len(session.get_outputs())} ({path}). Give a file that `autosam export` wrote."
        )
    return session


@functools.cache
def _openvino_core() -> Any:
    """The one of this process, which must never end.

    Each core moves the stack on which signals are handled into memory of its own, and puts back what it found
    when it ends. Cores that do not end in the reverse of their order leave it where there is no memory any
    more, and the next signal (a child that ended, Ctrl-C) kills the process.
    """
    import openvino

    return openvino.Core()


def _by_openvino(path: Path, *, half: bool) -> Graph:
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        compiled = _openvino_core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise _damaged(path, error) from error

    def run(values: np.ndarray) -> np.ndarray:
        return np.array(compiled(values)[0])  # a copy: the next run writes over its own

    return run


def read_metadata(path: Path) -> dict[str, Any]:
    """What an ONNX file says of itself, by key; JSON values where they are JSON.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        CheckpointError: The file is damaged.
    """
    if not is_installed("onnx"):
        raise MissingPackageError(
            "onnxruntime must be installed to read ONNX files. "
            "Install it: pip install 'autosam[onnx]'."
        )
    values: dict[str, Any] = {}
    for key, text in _session(path).get_modelmeta().custom_metadata_map.items():
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = text
    return values


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return CheckpointError(
        f"graph must be a readable ONNX file, got {path} ({reason}). Export it again."
    )
