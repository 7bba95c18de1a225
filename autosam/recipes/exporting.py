"""What `autosam export` does: one ONNX file of a run, compared with the run before it gets its name."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autosam.data.synthetic import make_scene
from autosam.errors import ConfigError, ModelError, OutputError
from autosam.files import PathLike, replacing
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_models import AutoSamTiles
from autosam.models.compiled_graphs import Graph, compile_graph
from autosam.models.exported_network import SUFFIX, ExportedNetwork
from autosam.models.probability_graph import (
    OPSET,
    ProbabilityGraph,
    describe_graph,
    write_onnx,
)

LARGEST_DIFFERENCE = 1e-3
"""Of a probability, in 0..1, between the file and the run."""
COMPARED_SEEDS = (0, 3, 11)
"""Of the drawn scenes that both mask."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """What was written, and how near it is to the run."""

    path: str
    megabytes: float
    opset: int
    side: int
    threshold: float
    largest_difference: float
    """Of a probability from the run's, over all pixels of the compared scenes."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)

    def sentence(self) -> str:
        """One line for the console."""
        return (
            f"{self.path}: {self.megabytes:.1f} MB, opset {self.opset}, (batch, 3, {self.side}, "
            f"{self.side}) of 0..1 to probability, threshold {self.threshold:.3f}; within "
            f"{self.largest_difference:.1e} of the run on {len(COMPARED_SEEDS)} drawn scenes"
        )


def export_run(
    source: PathLike,
    output: PathLike,
    *,
    overwrite: bool = False,
    token: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ExportedFile:
    """Write a run as one ONNX file, from picture to probability.

    Args:
        source: 'river-nano', the folder of a run, or ``owner/name`` on the hub.
        output: The file, ending in .onnx.
        overwrite: Replace a file that is there.
        token: For a private model.
        say: Told what happens next.

    Raises:
        OutputError: The file is there already, or cannot be written.
        ConfigError: The output is no .onnx, or the model needs bands or prompts, which a graph has no
            input for.
        ModelError: The model cannot be exported, or its graph gives other probabilities.
        MissingPackageError: onnx, onnxscript or onnxruntime is not installed.
    """
    path = Path(output)
    if path.suffix != SUFFIX:
        raise ConfigError(f"output must end in {SUFFIX}, got {path}. Name a file.")
    if path.exists() and not overwrite:
        raise OutputError(
            f"output must not exist yet, got {path}. Choose another name, or pass --overwrite."
        )
    model = _exportable(AutoSam.from_pretrained(source, token=token, device="cpu"), source)
    graph = ProbabilityGraph(model.network, temperature=model.decision.temperature).eval()
    say(f"writing {graph.side} x {graph.side} px, opset {OPSET}")
    with replacing(path) as beside:
        write_onnx(
            graph,
            torch.zeros(1, 3, graph.side, graph.side),
            beside,
            names=("image", "probability"),
            batched=True,
            metadata=_metadata(model),
        )
        say("comparing it with the run")
        difference = _checked_difference(model, compile_graph(beside, "onnx"))
        size = beside.stat().st_size
    return ExportedFile(
        path=str(path),
        megabytes=size / 1e6,
        opset=OPSET,
        side=graph.side,
        threshold=model.decision.threshold,
        largest_difference=difference,
    )


def _exportable(model: AutoSam, source: PathLike) -> AutoSam:
    if isinstance(model.network, ExportedNetwork):
        raise ConfigError(f"model must be a run, got an exported file ({source}). Copy it.")
    if model.bands or model.geometric is not None:
        got = f"bands {', '.join(model.bands)}" if model.bands else "points, a box or a mask"
        raise ConfigError(
            f"model must see the picture alone to be exported, got {model.config.method!r} that needs "
            f"{got} ({source}). Export an autosam, autosam+decoder, scratch or unet run."
        )
    return model


def _metadata(model: AutoSam) -> dict[str, str]:
    return describe_graph(
        model.network,
        model.config,
        decision=model.decision,
        ground_resolution=model.facts.get("ground_resolution"),
        identity=model.identity,
    )


def _checked_difference(model: AutoSam, graph: Graph) -> float:
    """Largest difference of a probability, for one picture at a time and for several.

    Raises:
        ModelError: It is above `LARGEST_DIFFERENCE`.
    """
    side = model.network.side
    pictures = [make_scene(seed, side=side).image for seed in COMPARED_SEEDS]
    values = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255
    expected = np.stack(AutoSamTiles(model)(pictures))[:, None]
    together = graph(values)
    alone = np.concatenate([graph(one[None]) for one in values])
    largest = max(float(np.abs(found - expected).max()) for found in (together, alone))
    if not largest <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"exported probabilities must be within {LARGEST_DIFFERENCE} of the run's, got a "
            f"difference of {largest:.4f}. Nothing was written; please report it."
        )
    return largest
