"""The programs that compile graphs share a process with everything else."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")

ONE_AFTER_THE_OTHER = """
import faulthandler, gc, signal, sys
from pathlib import Path
from autosam.models.compiled_graphs import compile_graph

faulthandler.enable()  # as pytest does: it owns the stack of signals
told = []
signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))  # as Ctrl-C, or a child that ends
graphs = [compile_graph(Path(sys.argv[1]), "openvino") for _ in range(3)]
for _ in range(3):
    del graphs[0]  # the oldest first
    gc.collect()
    signal.raise_signal(signal.SIGUSR1)
print(len(told))
"""


def test_signals_are_heard_after_graphs_of_openvino_are_gone_in_any_order(tmp_path):
    values = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["given"], ["answer"])], "relu",
        [values("given", onnx.TensorProto.FLOAT, [1, 3])],
        [values("answer", onnx.TensorProto.FLOAT, [1, 3])],
    )  # fmt: skip
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, tmp_path / "relu.onnx")
    command = [sys.executable, "-c", ONE_AFTER_THE_OTHER, str(tmp_path / "relu.onnx")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "3\n"), ended.stderr[-2000:]
