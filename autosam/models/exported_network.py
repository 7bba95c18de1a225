"""A model read back from the ONNX file that `autosam export` wrote: it predicts, and does nothing else."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from autosam.config import Config, config_from_dict
from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD
from autosam.errors import CheckpointError, ConfigError, MissingPathError, ModelError
from autosam.files import PathLike
from autosam.models.checkpoints import Decision
from autosam.models.compiled_graphs import (
    Compiler,
    Graph,
    check_installed,
    compile_graph,
    read_metadata,
)
from autosam.models.pixel_network import PixelNetwork
from autosam.models.probability_graph import OWN_FORMAT, OWN_KEY
from autosam.types import ImageEmbedding, MaskLogits, Pixels, SquarePrompt

SUFFIX = ".onnx"
_CERTAIN = 1e-7
"""Nearest that a probability comes to 0 and 1, so that its logit is finite."""


class ExportedNetwork(PixelNetwork):
    """The graph of a file under the contract of all methods; its logits are as large as the picture.

    Args:
        path: Of the file.
        method: Of the run that was exported.
        side: Height and width of its square.
        temperature: That is already in its probabilities, and is taken out again.
        compiler: What runs it.

    Raises:
        MissingPackageError: The compiler is not installed.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, path: Path, *, method: str, side: int, temperature: float, compiler: Compiler
    ) -> None:
        super().__init__(side)
        check_installed(compiler)
        self.method = method
        self.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        self._temperature = temperature
        self._name = str(path)
        self.compiler: Compiler = compiler
        self._path = path
        self._half = False
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1) / 255 for values in (PIXEL_MEAN, PIXEL_STD)
        )
        self.register_buffer("scale", std, persistent=False)
        self.register_buffer("shift", mean, persistent=False)

    @property
    def is_half(self) -> bool:
        """Whether its products are in bfloat16."""
        return self._half

    def compute_in_half(self, half: bool) -> None:
        """Take bfloat16 for its products from now on, or float32 again; only OpenVINO can.

        Args:
            half: As it says.
        """
        if half != self._half:
            self._half = half
            self.__dict__.pop("_graph", None)

    @functools.cached_property
    def _graph(self) -> Graph:
        """Made ready when it is first needed, in the format that was settled by then."""
        return compile_graph(self._path, self.compiler, half=self._half)

    def _pixels_of(
        self,
        pixels: Pixels | None,
        image_embedding: ImageEmbedding | None,
        prompts: Sequence[SquarePrompt] | None,
    ) -> Pixels:
        """The pixels; the graph has no input for clicks, boxes or an embedding."""
        if pixels is None or image_embedding is not None or prompts is not None:
            self._refuse("be given pixels alone", "an image embedding or prompts")
        return pixels

    def _logits(self, pixels: Pixels) -> MaskLogits:
        image = (pixels * self.scale + self.shift).clamp(0, 1)
        probability = torch.from_numpy(self._graph(image.float().cpu().numpy()))
        logits = torch.logit(probability.clamp(_CERTAIN, 1 - _CERTAIN)) * self._temperature
        return logits.to(pixels.device)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Refused: a graph does not train.

        Raises:
            ModelError: Always.
        """
        self._refuse("predict alone", "training")

    def trained_parts(self) -> dict[str, nn.Module]:
        """Refused: a graph is not a checkpoint.

        Raises:
            ModelError: Always.
        """
        self._refuse("predict alone", "an attempt to train or save it")

    def _refuse(self, rule: str, got: str) -> NoReturn:
        raise ModelError(
            f"an exported graph must {rule}, got {got} ({self._name}). "
            "Load the run that it was exported from."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A network from a file, and what the file says of it."""

    network: ExportedNetwork
    config: Config
    decision: Decision
    facts: Mapping[str, Any]


def load_exported(path: PathLike, *, compiler: Compiler = "onnx") -> ExportedModel:
    """Read a file that `autosam export` wrote.

    Raises:
        MissingPathError: There is no such file.
        MissingPackageError: onnxruntime, or the compiler, is not installed.
        CheckpointError: The file is damaged, or another program wrote it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(f"exported model must exist, got {path}. Check the path.")
    own = read_metadata(path).get(OWN_KEY)
    if not isinstance(own, dict) or own.get("format") != OWN_FORMAT:
        found = own.get("format") if isinstance(own, dict) else "none"
        raise CheckpointError(
            f"ONNX file must be one that `autosam export` wrote in format {OWN_FORMAT}, got format "
            f"{found} ({path}). Export the run again."
        )
    try:
        config = config_from_dict(own["config"])
        decision = Decision(temperature=own["temperature"], threshold=own["threshold"])
        network = ExportedNetwork(
            path, method=config.method, side=int(own["side"]), temperature=decision.temperature,
            compiler=compiler,
        )  # fmt: skip
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"exported model must be readable, got {path}: {error}") from error
    known = own.get("ground_resolution")
    facts = {"exported_from": own.get("identity")}
    return ExportedModel(
        network=network,
        config=config,
        decision=decision,
        facts=facts if known is None else {**facts, "ground_resolution": known},
    )
