"""Question: what do others take for the same picture, and what memory?

Method: every way is a process of its own in each round, one after another: it loads, masks the picture once
        to warm up, then three times by the clock. Masks are compared where the weights are equal: those of
        base, which are random and of a visible scale, prompted by one box around the whole picture. The
        others' masks mean nothing (U-Net and SegFormer have random weights), only their cost is measured.
        The pipeline of transformers and the generator of segment-anything need no prompt either: they try
        a grid of points.
Run:    python -m benchmarks.speed.peers --scratch FOLDER [--python ENVIRONMENT/bin/python] --out RESULT.json
        (ENVIRONMENT: where segment-anything is installed besides autosam; without, its rows are left out)
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from autosam import AutoSam
from autosam.data.images import read_image
from autosam.data.synthetic import make_scene
from autosam.files import write_json
from autosam.inference.raster_plan import peak_memory
from autosam.inference.runtimes import encoder_on
from autosam.models.autosam import PromptedSam
from autosam.models.sam import load_sam, save_sam_meta
from autosam.overlap import mask_iou
from autosam.recipes.environment import environment
from autosam.recipes.exporting import export_run
from benchmarks.speed.encoder import write_random_sam

Mask = Callable[[np.ndarray], np.ndarray]
SIDE, TIMED = 1024, 3
GRAPH = "river-nano.onnx"
GRID = 8
"""Points along a side of what tries them; 32 by default, which is sixteen times the decoding."""


def river_nano(runtime: str) -> Mask:
    """Ours as shipped, on a runtime that its masks allow."""
    model = AutoSam.from_pretrained(device="cpu", runtime=runtime)
    return lambda image: model.predict(image).mask


def autosam_box(scratch: Path, runtime: str) -> Mask:
    """Ours, one box around the whole picture, whatever its masks: they are compared here."""
    model = AutoSam(method="decoder-box-full", sam=str(scratch / "base"), device="cpu")
    sam = cast(PromptedSam, model.network).sam
    sam.encode_by(encoder_on(sam, runtime))
    return lambda image: model.predict(image).mask


def exported(scratch: Path, runtime: str) -> Mask:
    """The file of `autosam export`."""
    model = AutoSam.from_pretrained(scratch / GRAPH, runtime=runtime)
    return lambda image: model.predict(image).mask


def smp_unet(_: Path) -> Mask:
    """A U-Net on ResNet-34, as segmentation-models-pytorch makes it."""
    import segmentation_models_pytorch as smp

    return _pixel_network(smp.Unet("resnet34", encoder_weights=None).eval())


def segformer(_: Path) -> Mask:
    """SegFormer-B0 as transformers makes it."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=1)).eval()
    return _pixel_network(lambda pixels: network(pixels).logits)


def _pixel_network(network: Callable[[torch.Tensor], torch.Tensor]) -> Mask:
    @torch.inference_mode()
    def mask(image: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        logits = torch.nn.functional.interpolate(network(pixels), image.shape[:2], mode="bilinear")
        return (logits[0, 0] > 0).numpy()

    return mask


def transformers_box(scratch: Path) -> Mask:
    """SamModel and SamProcessor, one box around the whole picture."""
    from transformers import SamModel, SamProcessor

    model = SamModel.from_pretrained(scratch / "base").eval()
    processor: Any = SamProcessor(_image_processor())

    @torch.inference_mode()
    def mask(image: np.ndarray) -> np.ndarray:
        box = [[[0.0, 0.0, image.shape[1] - 1.0, image.shape[0] - 1.0]]]
        given = processor(image, input_boxes=[box[0]], return_tensors="pt")
        found = model(**given, multimask_output=False)
        sizes = given["original_sizes"], given["reshaped_input_sizes"]
        masks = processor.image_processor.post_process_masks(found.pred_masks, *sizes)
        return masks[0][0, 0].numpy()

    return mask


def transformers_pipeline(scratch: Path) -> Mask:
    """The pipeline that needs no prompt: a grid of points, the masks put together."""
    from transformers import SamModel, pipeline

    model = SamModel.from_pretrained(scratch / "base").eval()
    made: Any = pipeline("mask-generation", model=model, image_processor=_image_processor())

    def mask(image: np.ndarray) -> np.ndarray:
        found = made(Image.fromarray(image), points_per_batch=64, points_per_crop=GRID)["masks"]
        return np.any(found, axis=0) if len(found) else np.zeros(image.shape[:2], bool)

    return mask


def _image_processor() -> Any:
    from transformers import SamImageProcessor

    return SamImageProcessor()


def segment_anything_box(scratch: Path) -> Mask:
    """Meta's package, one box around the whole picture."""
    from segment_anything import SamPredictor, sam_model_registry

    predictor = SamPredictor(sam_model_registry["vit_b"](str(scratch / "base.pth")).eval())

    def mask(image: np.ndarray) -> np.ndarray:
        predictor.set_image(image)
        box = np.array([0.0, 0.0, image.shape[1] - 1.0, image.shape[0] - 1.0])
        return predictor.predict(box=box, multimask_output=False)[0][0]

    return mask


def segment_anything_grid(scratch: Path) -> Mask:
    """Meta's package without a prompt."""
    from segment_anything import SamAutomaticMaskGenerator, sam_model_registry

    sam = sam_model_registry["vit_b"](str(scratch / "base.pth")).eval()
    generator = SamAutomaticMaskGenerator(sam, points_per_side=GRID)

    def mask(image: np.ndarray) -> np.ndarray:
        found = [one["segmentation"] for one in generator.generate(image)]
        return np.any(found, axis=0) if found else np.zeros(image.shape[:2], bool)

    return mask


BOX = "base, one box: "
WAYS: dict[str, tuple[Callable[[Path], Mask], str]] = {
    "river-nano, torch": (lambda _: river_nano("torch"), "torch"),
    "river-nano, OpenVINO": (lambda _: river_nano("openvino"), "openvino"),
    "river-nano as one graph, OpenVINO": (
        lambda scratch: exported(scratch, "openvino"),
        "openvino",
    ),
    "river-nano as one graph, OpenVINO in bfloat16": (
        lambda scratch: exported(scratch, "openvino-bf16"),
        "openvino",
    ),
    "U-Net on ResNet-34, smp": (smp_unet, "segmentation_models_pytorch"),
    "SegFormer-B0, transformers": (segformer, "transformers"),
    f"{BOX}transformers": (transformers_box, "transformers"),
    f"{BOX}segment-anything": (segment_anything_box, "segment_anything"),
    f"{BOX}autosam, torch": (lambda scratch: autosam_box(scratch, "torch"), "torch"),
    f"{BOX}autosam, torch-bf16": (lambda scratch: autosam_box(scratch, "torch-bf16"), "torch"),
    f"{BOX}autosam, openvino": (lambda scratch: autosam_box(scratch, "openvino"), "openvino"),
    f"{BOX}autosam, openvino-bf16": (
        lambda scratch: autosam_box(scratch, "openvino-bf16"),
        "openvino",
    ),
    f"base, {GRID} x {GRID} points: transformers' pipeline": (
        transformers_pipeline,
        "transformers",
    ),
    f"base, {GRID} x {GRID} points: segment-anything": (segment_anything_grid, "segment_anything"),
}
"""How each way is made, and the package that it needs."""


def mask_once(name: str, scratch: Path) -> None:
    """Load, mask, and print what it took."""
    image = read_image(scratch / "scene.png").image
    start = time.perf_counter()
    mask = WAYS[name][0](scratch)
    loaded = time.perf_counter() - start
    found = mask(image)
    seconds = []
    for _ in range(TIMED):
        start = time.perf_counter()
        mask(image)
        seconds.append(time.perf_counter() - start)
    np.save(scratch / "mask.npy", found.astype(bool))
    peak = peak_memory() / 2**20
    print(json.dumps({"load": loaded, "mask": float(np.median(seconds)), "peak_mib": peak}))


def measured(
    names: list[str], scratch: Path, python: str, rounds: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, np.ndarray], dict[str, str]]:
    """What every way took in every round, its mask, and what those that failed said."""
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    masks: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name in names:
            command = [
                python, "-m", "benchmarks.speed.peers", "--one", name, "--scratch", str(scratch)
            ]  # fmt: skip
            answer = subprocess.run(command, check=False, capture_output=True, text=True)
            if answer.returncode:
                failed[name] = answer.stderr.strip().splitlines()[-1]
                print(name, failed[name], flush=True)
                continue
            for key, value in json.loads(answer.stdout.splitlines()[-1]).items():
                taken[name].setdefault(key, []).append(round(value, 3))
            masks[name] = np.load(scratch / "mask.npy")
            print(name, {key: values[-1] for key, values in taken[name].items()}, flush=True)
    return taken, masks, failed


def main() -> None:
    """Let every way mask one picture and write what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", help="those whose name begins so; all by default")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        mask_once(arguments.one, arguments.scratch)
        return
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_scene(3, side=SIDE).image).save(arguments.scratch / "scene.png")
    if not (arguments.scratch / GRAPH).is_file():
        export_run("river-nano", arguments.scratch / GRAPH)
    if not (arguments.scratch / "base.pth").is_file():
        write_random_sam(arguments.scratch / "base", SIDE, 12)
        save_sam_meta(load_sam(str(arguments.scratch / "base")), arguments.scratch / "base.pth")
    asked = tuple(arguments.ways or ("",))
    names = [
        name for name, (_, package) in WAYS.items()
        if name.startswith(asked) and has_package(arguments.python, package)
    ]  # fmt: skip
    taken, masks, failed = measured(names, arguments.scratch, arguments.python, arguments.rounds)
    boxed = [name for name in masks if name.startswith(BOX)]
    result = {
        "question": "peers",
        "picture": f"{SIDE} x {SIDE} px",
        "rounds": taken,
        "medians": {
            name: {key: round(float(np.median(values)), 3) for key, values in one.items()}
            for name, one in taken.items()
        },
        "mask_iou_with_transformers": {
            name: round(mask_iou(masks[boxed[0]], masks[name]), 5) for name in boxed
        },
        "water_share_of_mask": {name: round(float(masks[name].mean()), 4) for name in masks},
        "failed": failed,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "rounds"}, indent=1))
    if arguments.out:
        write_json(arguments.out, {**result, "environment": environment()})


def has_package(python: str, package: str) -> bool:
    """Whether that environment can import it."""
    if python == sys.executable:
        return importlib.util.find_spec(package) is not None
    code = f"import importlib.util; exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


if __name__ == "__main__":
    main()
