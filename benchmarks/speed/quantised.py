"""Question: is river-nano's encoder fast enough in eight bits, and are its masks still the same?

Method: ONNX Runtime quantises the encoder (static, weights by channel, ranges from 12 drawn scenes) in three
        extents: all convolutions, those that are not depthwise but for the first and last, and the later
        half of these. Each graph runs on ONNX Runtime and on OpenVINO, and alternates with torch and with
        the graph in float32 in one process; figures are processor seconds of one thread. Masks are compared
        on other drawn scenes: IoU with torch's masks, of which `autosam` asks .995 on each, and IoU with the
        truth less torch's own.
Run:    python -m benchmarks.speed.quantised --scratch FOLDER --out benchmarks/results/quantised--cpu.json
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from autosam import AutoSam
from autosam.data.synthetic import make_scene
from autosam.files import write_json
from autosam.inference.runtimes import SCENE_SEEDS, SCENE_SIDE, encoder_on, runtime_folder
from autosam.models.autosam import PromptedSam
from autosam.models.compiled_graphs import compile_graph
from autosam.models.frozen_sam import Encode, Sam
from autosam.overlap import mask_iou
from autosam.recipes.environment import environment

CALIBRATION_SEEDS = range(100, 112)
ROUNDS = 9
COMPILERS = ("onnx", "openvino")
SAME = ("torch", *COMPILERS)
"""In float32."""


class Scenes(CalibrationDataReader):  # type: ignore[misc]
    """What ranges are measured on."""

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        self._left: Iterator[Tensor] = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next picture."""
        picture = next(self._left, None)
        return None if picture is None else {"pixels": picture.numpy()}


def seen_by_encoder(model: AutoSam, sam: Sam) -> list[Tensor]:
    """(1, 3, side, side) of each calibration scene."""
    seen: list[Tensor] = []

    def encode(pixels: Tensor) -> Tensor:
        seen.append(pixels.detach().clone())
        return sam.encode_by_torch(pixels)

    sam.encode_by(encode)
    for seed in CALIBRATION_SEEDS:
        model.predict_sample(model.judged(make_scene(seed, side=SCENE_SIDE)))
    sam.encode_by(None)
    return seen


def left_in_float(graph: Path) -> dict[str, list[str]]:
    """Convolutions that stay, by what is quantised."""
    convolutions = [node for node in onnx.load(str(graph)).graph.node if node.op_type == "Conv"]
    depthwise = [
        node.name
        for node in convolutions
        if any(one.name == "group" and one.i > 1 for one in node.attribute)
    ]
    names = [node.name for node in convolutions]
    ends = [*names[:3], *names[-6:]]
    return {
        "all": [],
        "not depthwise, not the ends": [*depthwise, *ends],
        "later half, not depthwise": [*depthwise, *names[: len(names) // 2]],
    }


def quantised(graph: Path, scratch: Path, pictures: Sequence[Tensor]) -> dict[str, Path]:
    """A graph for each extent."""
    prepared = scratch / "prepared.onnx"
    quant_pre_process(str(graph), str(prepared))
    made = {}
    for number, (extent, stays) in enumerate(left_in_float(prepared).items()):
        made[extent] = scratch / f"quantised-{number}.onnx"
        quantize_static(
            str(prepared), str(made[extent]), Scenes(pictures), quant_format=QuantFormat.QDQ,
            per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv"], nodes_to_exclude=stays,
            reduce_range=True,  # without VNNI sums of 16 bits overflow
        )  # fmt: skip
    return made


def encode_by_graph(path: Path, compiler: str) -> Encode:
    """An encoder that a compiled graph computes."""
    graph = compile_graph(path, cast(Any, compiler))

    def encode(pixels: Tensor) -> Tensor:
        return torch.from_numpy(graph(pixels.detach().float().contiguous().numpy()))

    return encode


def masks_by(model: AutoSam, sam: Sam, encode: Encode | None) -> list[np.ndarray]:
    """Of the scenes on which `autosam` compares runtimes."""
    sam.encode_by(encode)
    scenes = [model.judged(make_scene(seed, side=SCENE_SIDE)) for seed in SCENE_SEEDS]
    masks = [model.predict_sample(scene).mask for scene in scenes]
    sam.encode_by(None)
    return masks


def main() -> None:
    """Quantise, compare and time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True, help="folder for graphs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = AutoSam.from_pretrained("river-nano", device="cpu")
    network = model.network
    assert isinstance(network, PromptedSam)
    sam = network.sam
    pictures = seen_by_encoder(model, sam)
    ways: dict[str, Encode] = {name: encoder_on(sam, name) or sam.encode_by_torch for name in SAME}
    graphs = quantised(runtime_folder(sam) / "encoder.onnx", arguments.scratch, pictures)
    for extent, graph in graphs.items():
        ways |= {f"{one}, 8 bits: {extent}": encode_by_graph(graph, one) for one in COMPILERS}
    truths = [make_scene(seed, side=SCENE_SIDE) for seed in SCENE_SEEDS]
    exact = masks_by(model, sam, None)
    rows = [
        {"way": name, **compared(masks_by(model, sam, way), exact, [t.mask for t in truths])}
        for name, way in ways.items()
    ]
    for row, seconds in zip(rows, alternated(list(ways.values()), pictures[0]), strict=True):
        row["milliseconds"] = [round(1000 * one, 1) for one in np.percentile(seconds, [0, 50, 100])]
    first = rows[0]["milliseconds"][1]
    for row in rows:
        row["times_as_fast"] = round(first / row["milliseconds"][1], 2)
        print(row)
    result = {
        "question": "quantised", "side": sam.side, "rounds": ROUNDS, "threads": 1, "rows": rows,
        "environment": environment(),
    }  # fmt: skip
    write_json(arguments.out, result)


def compared(
    masks: Sequence[np.ndarray], exact: Sequence[np.ndarray], truths: Sequence[Any]
) -> dict[str, Any]:
    """IoU with torch's masks, and what of the IoU with the truth is lost."""
    same = [mask_iou(*pair) for pair in zip(masks, exact, strict=True)]
    gains = [
        mask_iou(mask, truth) - mask_iou(ours, truth)
        for mask, ours, truth in zip(masks, exact, truths, strict=True)
    ]
    return {
        "iou_with_torch": [round(float(iou), 4) for iou in same],
        "iou_with_truth_gained": round(float(np.mean(gains)), 4),
    }


def alternated(ways: Sequence[Encode], pixels: Tensor) -> list[list[float]]:
    """Processor seconds of each way, round by round."""
    seconds: list[list[float]] = [[] for _ in ways]
    with torch.no_grad():
        for way in ways:
            way(pixels)
        for _ in range(ROUNDS):
            for way, own in zip(ways, seconds, strict=True):
                start = time.process_time()
                way(pixels)
                own.append(time.process_time() - start)
    return seconds


if __name__ == "__main__":
    main()
