"""A network as one graph, from a square picture to the probability of water, and that graph as an ONNX file.

The file says of itself what reads it needs to know: in the words of QGIS' Deepness plugin
(https://qgis-plugin-deepness.readthedocs.io, "add metadata to model"), and in our own under `OWN_KEY`.
"""

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from autosam.config import Config
from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from autosam.errors import MissingPackageError, ModelError
from autosam.models.checkpoints import Decision
from autosam.models.contract import MaskNetwork
from autosam.types import Pixels

OPSET = 18
"""First with everything that the graphs use; read by onnxruntime 1.14 and later."""
OWN_KEY = "autosam"
OWN_FORMAT = 1
LARGEST_BYTES = 2**31
"""Of one ONNX file, which is a protocol buffer."""

_PADDING = 0.01
"""Grey levels within which a pixel is padding: that is SAM's mean, which no whole number comes near."""

Unit = Float[Tensor, "batch 3 side side"]
"""Red, green and blue in 0..1."""
Probability = Float[Tensor, "batch 1 side side"]


class ProbabilityGraph(nn.Module):
    """Picture in, probability of water out, with nothing left to do before or after but the threshold.

    Args:
        network: In evaluation mode; it reads red, green and blue alone and needs no prompt.
        temperature: As `Decision.temperature`.
    """

    def __init__(self, network: MaskNetwork, *, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.side = network.side
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self._prompt_side = network.prompt_side
        self._antialias = bool(getattr(getattr(network, "prompter", None), "antialias", True))
        self.register_buffer("weights", shrinking_weights(self.side, self._prompt_side))

    mean: Tensor
    std: Tensor
    weights: Tensor

    def forward(self, image: Unit) -> Probability:
        """As `AutoSam.predict_image` of a picture of SAM's side.

        Args:
            image: Values are multiples of 1/255, as 8-bit pictures have them.
        """
        levels = image * 255
        logits = self.network(
            self._normalised(levels), prompt_pixels=self._normalised(self._shrunk(levels))
        )
        if self.network.guided_filter is not None:
            inside = (levels - self.mean).abs().amax(dim=1, keepdim=True) > _PADDING
            square = self.network.guided_filter(logits, levels, inside=inside)
        else:
            square = functional.interpolate(
                logits.float(), size=(self.side, self.side), mode="bilinear", align_corners=False
            )
        probability: Tensor = torch.sigmoid(square / self.temperature)
        return probability

    def _normalised(self, levels: Tensor) -> Pixels:
        return (levels - self.mean) / self.std

    def _shrunk(self, levels: Tensor) -> Tensor:
        """As `data.geometry.shrink_squares`, which rounds to grey levels after each axis."""
        if self._prompt_side == self.side:
            return levels
        if not self._antialias:
            size = (self._prompt_side, self._prompt_side)
            points = functional.interpolate(
                _half_up(levels), size, mode="bilinear", align_corners=True
            )
            return torch.round(points)
        return _half_up(self.weights @ _half_up(_half_up(levels) @ self.weights.T))


def shrinking_weights(side: int, to_side: int) -> Float[Tensor, "to_side side"]:
    """Bilinear resizing with antialias of one axis, as a matrix.

    ONNX has an attribute for it, which OpenVINO 2026.4 passes over in silence.
    The weights are the fixed-point ones of torch's resizing of 8-bit pictures, whose equal it is.
    """
    if side == to_side:
        return torch.empty(0, side)  # nothing shrinks
    axis = torch.eye(side, dtype=torch.float64)[None, None]
    exact: Tensor = functional.interpolate(
        axis, (to_side, side), mode="bilinear", antialias=True, align_corners=False
    )[0, 0]
    bits = 14 - math.floor(math.log2(float(exact.max()) + 2**-16))  # they must fit 16 bits
    unit = math.ldexp(1.0, bits)
    return (torch.floor(exact * unit + 0.5) / unit).float()


def _half_up(levels: Tensor) -> Tensor:
    """Torch rounds fixed-point numbers so, and floating-point ones half to even."""
    return torch.floor(levels + 0.5).clamp(0, 255)


def describe_graph(
    network: MaskNetwork,
    config: Config,
    *,
    decision: Decision,
    ground_resolution: Mapping[str, float] | None,
    identity: str,
) -> dict[str, str]:
    """The metadata of a file: JSON values by key, as Deepness reads them.

    Args:
        network: Whose graph it is.
        config: With which the network was built.
        decision: Its threshold; the temperature is in the graph.
        ground_resolution: {'low': metres, 'high': metres} of the training pictures; None when unknown.
        identity: Of the model.
    """
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {"0": "water"},
        "tiles_size": network.side,
        "tile_size": network.side,  # the name in Deepness before 0.6
        "tiles_overlap": 25,
        "standardization_mean": [0.0, 0.0, 0.0],  # the graph normalises by itself
        "standardization_std": [1.0, 1.0, 1.0],
        "seg_thresh": decision.threshold,
        "seg_small_segment": 0,
        OWN_KEY: {
            "format": OWN_FORMAT,
            "input": "red, green and blue / 255, (batch, 3, side, side) float32",
            "output": "probability of water, (batch, 1, side, side) float32",
            "side": network.side,
            "temperature": decision.temperature,
            "threshold": decision.threshold,
            "ground_resolution": None if ground_resolution is None else dict(ground_resolution),
            "identity": identity,
            "config": config.to_dict(),
        },
    }
    if ground_resolution is not None:
        metres = math.sqrt(ground_resolution["low"] * ground_resolution["high"])
        values["resolution"] = round(100 * metres, 2)
    return {key: json.dumps(value, allow_nan=False) for key, value in values.items()}


def write_onnx(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    names: tuple[str, str],
    batched: bool,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a module of one input and one output as a single ONNX file of opset `OPSET`.

    Args:
        module: In evaluation mode.
        example: An input of the shape that the graph will take.
        path: Of the file.
        names: Of input and output.
        batched: Whether the graph takes any number of pictures; else that of the example.
        metadata: Text by key.

    Raises:
        MissingPackageError: onnx or onnxscript is not installed.
        ModelError: The network is too large for one file, or has a part that ONNX cannot say.
    """
    size = sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
    if size >= LARGEST_BYTES:
        raise ModelError(
            f"network must be below {LARGEST_BYTES / 2**30:.0f} GiB for one ONNX file, got "
            f"{size / 2**30:.1f} GiB. Use a smaller SAM."
        )
    _check_packages()
    pictures = torch.export.Dim("batch", min=1, max=1024)
    if batched:
        example = torch.cat([example, example])  # of one, torch would take the count for a constant
    with torch.no_grad(), _quiet():
        try:
            exported = torch.export.export(
                module, (example,), dynamic_shapes=({0: pictures},) if batched else None
            )
            program: Any = torch.onnx.export(
                exported, dynamo=True, input_names=[names[0]], output_names=[names[1]],
                opset_version=OPSET, verbose=False,
            )  # fmt: skip
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"network must consist of what ONNX {OPSET} can say, got {type(error).__name__}: "
                f"{reason}. Use another prompt network."
            ) from error
        program.model.metadata_props.update(metadata or {})
        program.save(str(path), external_data=False)


def _check_packages() -> None:
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingPackageError(
                f"{package} must be installed to write ONNX files. "
                "Install it: pip install 'autosam[onnx]'."
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter says what it does on standard output, by warnings and by logs of its optimiser."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
