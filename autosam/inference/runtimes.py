"""Other programs in the place of torch for SAM's image encoder, each let in only when its masks agree.

A converted encoder and what was found of it are kept in the user's cache, by the digest of the weights:
converting and comparing happen once.
"""

import contextlib
import hashlib
import os
import platform
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from autosam.data.synthetic import make_scene
from autosam.errors import ModelError, did_you_mean
from autosam.files import read_json, replacing, write_json
from autosam.inference.number_formats import half_pays
from autosam.models.autosam import PromptedSam
from autosam.models.compiled_graphs import Compiler, compile_graph, compiler_version, is_installed
from autosam.models.exported_network import ExportedNetwork
from autosam.models.frozen_sam import Encode, Sam
from autosam.models.probability_graph import OPSET, write_onnx
from autosam.overlap import mask_iou
from autosam.types import ImageEmbedding, Pixels

if TYPE_CHECKING:
    from autosam.inference.segmenter import AutoSam

RUNTIMES = ("torch", "torch-bf16", "onnx", "openvino", "openvino-bf16")
HALF = "-bf16"
"""Ends the name of those whose products are in bfloat16; the others compute in float32 on every machine."""
AUTO = "auto"
"""The fastest that `autosam doctor --bench` found here for the same encoder; torch where it was not run."""
LEAST_IOU = 0.995
"""Of a runtime's masks with torch's, on every drawn scene; below, it is refused."""
SCENE_SEEDS = (3, 11, 20)
SCENE_SIDE = 384
_ENCODER_FILE = "encoder.onnx"
_VERDICTS_FILE = "verdicts.json"
_CHOICE_FILE = "choice.json"
_encoding: "weakref.WeakKeyDictionary[Sam, str]" = weakref.WeakKeyDictionary()
"""Which runtime was let in for a SAM; none for torch."""


class _Encoded(nn.Module):
    """The encoder without the object that transformers wraps its answer in."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Pixels) -> ImageEmbedding:
        return cast(Tensor, self.encoder(pixels).last_hidden_state)


def set_runtime(model: "AutoSam", runtime: str) -> str:
    """Let a runtime encode for a model, after its masks were compared with torch's.

    Args:
        model: On the processor, with an image encoder that is in memory.
        runtime: One of `RUNTIMES`, or 'auto'.

    Returns:
        The runtime that encodes now.

    Raises:
        ModelError: The runtime is unknown, does not fit the model, or its masks differ from torch's.
        MissingPackageError: Its package is not installed.
    """
    if runtime not in (*RUNTIMES, AUTO):
        remedy = did_you_mean(runtime, (*RUNTIMES, AUTO))
        raise ModelError(f"runtime must be a known one, got {runtime!r}. {remedy}")
    if isinstance(model.network, ExportedNetwork):
        return _set_of_graph(model, model.network, runtime)
    if runtime == AUTO:
        return _set_remembered(model)
    if runtime == "torch":
        if isinstance(model.network, PromptedSam):
            _let_encode(model.network.sam, runtime)
        return runtime
    sam = _sam_of(model, runtime)
    key = f"{model.identity} {runtime} {_versions(runtime)}"
    found = _verdict(
        runtime_folder(sam) / _VERDICTS_FILE, key,
        lambda: measured_agreement(model, encoder_on(sam, runtime)),
    )  # fmt: skip
    if min(found) < LEAST_IOU:
        _let_encode(sam, "torch")
        raise _refusal(runtime, found, known="torch")
    _let_encode(sam, runtime)
    return runtime


def runtime_of(model: "AutoSam") -> str:
    """What encodes for a model now; of an ONNX file what runs it; 'torch' where nothing else was let in."""
    network = model.network
    if isinstance(network, ExportedNetwork):
        return f"{network.compiler}{HALF}" if network.is_half else network.compiler
    return _encoding.get(network.sam, "torch") if isinstance(network, PromptedSam) else "torch"


def _refusal(runtime: str, found: Sequence[float], *, known: str) -> ModelError:
    nearer = runtime.removesuffix(HALF)
    return ModelError(
        f"masks on {runtime!r} must have an IoU of {LEAST_IOU} and more with those on {known!r}, got "
        f"{', '.join(f'{iou:.4f}' for iou in found)} on drawn scenes. "
        f"Use runtime={known if nearer == runtime else nearer!r}."
    )


def _let_encode(sam: Sam, runtime: str) -> None:
    sam.encode_by(None if runtime == "torch" else encoder_on(sam, runtime))
    _encoding.pop(sam, None)
    if runtime != "torch":
        _encoding[sam] = runtime


def _set_of_graph(model: "AutoSam", network: ExportedNetwork, runtime: str) -> str:
    """Let OpenVINO run a whole graph in bfloat16 where the masks agree with its own in float32."""
    network.compute_in_half(False)
    if runtime.endswith(HALF):  # the compiler was chosen when the file was read
        path = _cache() / network.fingerprint[:32] / _VERDICTS_FILE
        key = f"{runtime} {compiler_version(network.compiler)}"
        found = _verdict(path, key, lambda: _agreement_of_halves(model, network))
        if min(found) < LEAST_IOU:
            raise _refusal(runtime, found, known=network.compiler)
        network.compute_in_half(True)
    return runtime_of(model)


def _agreement_of_halves(model: "AutoSam", network: ExportedNetwork) -> list[float]:
    """IoU of a graph's masks in bfloat16 with those in float32, in which it is left."""
    exact = _drawn_masks(model)
    network.compute_in_half(True)
    try:
        masks = _drawn_masks(model)
    finally:
        network.compute_in_half(False)
    return [mask_iou(ours, theirs) for ours, theirs in zip(exact, masks, strict=True)]


def _verdict(path: Path, key: str, measure: Callable[[], list[float]]) -> list[float]:
    """What was measured, from the cache where the same was compared before."""
    known = _read(path)
    if key not in known:
        known = {**known, key: measure()}
        write_json(path, known)
    return [float(iou) for iou in known[key]]


def _drawn_masks(model: "AutoSam") -> list[np.ndarray]:
    """Of the scenes that runtimes are compared on."""
    scenes = [model.judged(make_scene(seed, side=SCENE_SIDE)) for seed in SCENE_SEEDS]
    return [model.predict_sample(scene).mask for scene in scenes]


def _set_remembered(model: "AutoSam") -> str:
    """What was measured as fastest; torch where nothing was, or where this model's masks differ on it."""
    chosen = remembered_choice(model)
    if chosen is not None and chosen in available_runtimes():
        with contextlib.suppress(ModelError):
            return set_runtime(model, chosen)
    return set_runtime(model, "torch")


def available_runtimes() -> tuple[str, ...]:
    """Those that are installed, and bfloat16 where this processor is quick at it."""
    installed = [
        name for name in RUNTIMES if name.startswith("torch") or is_installed(_compiler_of(name))
    ]
    return tuple(name for name in installed if half_pays() or not name.endswith(HALF))


def _compiler_of(runtime: str) -> Compiler:
    return cast(Compiler, runtime.removesuffix(HALF))


def _sam_of(model: "AutoSam", runtime: str) -> Sam:
    network = model.network
    if not isinstance(network, PromptedSam) or network.sam.image_encoder is None:
        raise ModelError(
            f"runtime {runtime!r} must be for a model with SAM's image encoder, got "
            f"{model.config.method!r} without. Leave runtime out, or `autosam export` the model."
        )
    if model.device.type != "cpu":
        raise ModelError(
            f"runtime {runtime!r} must run on the processor, got device {str(model.device)!r}. "
            "Leave one of the two out."
        )
    return network.sam


def encoder_on(sam: Sam, runtime: str) -> Encode | None:
    """What encodes for a SAM on a runtime; None for torch, whose own encoder does.

    Args:
        sam: With its image encoder.
        runtime: One of `RUNTIMES`.

    Raises:
        MissingPackageError: Its package is not installed.
        ModelError: The encoder is too large to convert.
    """
    if runtime == "torch":
        return None
    if runtime == "torch-bf16":
        return _half(sam)
    graph = compile_graph(_converted(sam), _compiler_of(runtime), half=runtime.endswith(HALF))

    def encode(pixels: Pixels) -> ImageEmbedding:
        answers = [
            graph(one.numpy()) for one in torch.split(pixels.detach().float().contiguous(), 1)
        ]
        return torch.from_numpy(np.concatenate(answers))

    return encode


def _half(sam: Sam) -> Encode:
    """bfloat16 in the products, float32 elsewhere."""

    def encode(pixels: Pixels) -> ImageEmbedding:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return sam.encode_by_torch(pixels).float()

    return encode


def _converted(sam: Sam) -> Path:
    """The encoder as an ONNX file, made where the cache has none."""
    path = runtime_folder(sam) / _ENCODER_FILE
    if not path.is_file():
        if sam.image_encoder is None:
            raise AssertionError("checked by _sam_of")
        example = torch.zeros(1, 3, sam.side, sam.side)
        with replacing(path) as beside:
            write_onnx(
                _Encoded(sam.image_encoder).eval(), example, beside,
                names=("pixels", "image_embedding"), batched=False,
            )  # fmt: skip
    return path


def runtime_folder(sam: Sam) -> Path:
    """Where what belongs to one encoder is kept: $XDG_CACHE_HOME or ~/.cache, autosam/runtimes."""
    return _cache() / _encoder_digest(sam)[:32]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "autosam" / "runtimes"


def _encoder_digest(sam: Sam) -> str:
    """Of the weights as they are now, which training may have changed, and of what converts them."""
    if sam.image_encoder is None:
        raise AssertionError("checked by _sam_of")
    digest = hashlib.sha256(f"{OPSET} {torch.__version__} {sam.side}".encode())
    for key, tensor in sorted(sam.image_encoder.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def measured_agreement(model: "AutoSam", encode: Encode | None) -> list[float]:
    """IoU of masks with torch's on drawn scenes, one each.

    Args:
        model: Whose network is a `PromptedSam` with its encoder; it is left on torch.
        encode: What encodes in the place of torch.
    """
    sam = cast(PromptedSam, model.network).sam
    masks: list[list[np.ndarray]] = []
    try:
        for one in (None, encode):
            sam.encode_by(one)
            masks.append(_drawn_masks(model))
    finally:
        sam.encode_by(None)
    return [mask_iou(ours, theirs) for ours, theirs in zip(*masks, strict=True)]


def remember_choice(model: "AutoSam", runtime: str, measured: Mapping[str, Any]) -> Path:
    """Keep which runtime is fastest here, for 'auto'.

    Args:
        model: Whose encoder was measured.
        runtime: One of `RUNTIMES`.
        measured: JSON values to keep with it.
    """
    path = runtime_folder(_sam_of(model, runtime)) / _CHOICE_FILE
    write_json(path, {**_read(path), _machine(): {"runtime": runtime, **measured}})
    return path


def remembered_choice(model: "AutoSam") -> str | None:
    """What `remember_choice` kept for this encoder on such a machine; None where nothing was."""
    network = model.network
    if not isinstance(network, PromptedSam) or network.sam.image_encoder is None:
        return None
    if model.device.type != "cpu":
        return None
    kept = _read(runtime_folder(network.sam) / _CHOICE_FILE).get(_machine(), {})
    runtime = kept.get("runtime")
    return runtime if runtime in RUNTIMES else None


def _machine() -> str:
    """Caches may be shared by machines; a choice is not."""
    speeds = "bfloat16" if half_pays() else "float32"
    return f"{platform.machine()} {os.cpu_count()} cores {torch.get_num_threads()} threads {speeds}"


def _versions(runtime: str) -> str:
    if runtime.startswith("torch"):
        return torch.__version__
    return compiler_version(_compiler_of(runtime))


def _read(path: Path) -> dict[str, Any]:
    """A file of the cache; one that is damaged counts as none."""
    try:
        values = read_json(path) if path.is_file() else {}
    except (ValueError, OSError):
        return {}
    return values if isinstance(values, dict) else {}
