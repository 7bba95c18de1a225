"""What a user holds: any picture in, its river out."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from autosam.config import Config, PromptSettings, SamSettings, config_from_dict
from autosam.data.geometry import (
    logits_to_original,
    normalise,
    scale_sizes,
    shrink_squares,
    to_square,
)
from autosam.data.images import Picture, find_images, read_image, to_picture
from autosam.errors import ImageError, ModelError
from autosam.files import PathLike
from autosam.models.checkpoints import (
    Decision,
    load_checkpoint,
    push_checkpoint,
    save_checkpoint,
)
from autosam.models.contract import MaskNetwork
from autosam.models.methods import build_network
from autosam.models.sam import Sam
from autosam.types import ImageEmbedding, Prediction

Source = PathLike | np.ndarray | Image


class AutoSam:
    """Prompt-free river segmentation: encode the image, prompt, decode the mask.

    Args:
        config: What to build; a `Config`, or None for the defaults changed by the arguments below.
        method: As `config.method`.
        sam: As `config.sam.name`.
        prompt: As `config.prompt.network`.
        network: A network that is already built; `config` must be the one that built it.
        decision: Temperature and threshold; neutral ones by default.
        facts: What is known of the weights, for the card.
        device: 'cuda', 'mps', 'cpu'; None takes the best there is.

    A model that was built rather than loaded has untrained weights: its masks mean nothing yet.

    Example:
        >>> model = AutoSam.from_pretrained("runs/elwha")       # doctest: +SKIP
        >>> model.predict("ortho.png").save("river.png")         # doctest: +SKIP
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        method: str | None = None,
        sam: str | None = None,
        prompt: str | None = None,
        network: MaskNetwork | None = None,
        decision: Decision | None = None,
        facts: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> None:
        self.config = _changed(config or Config(), method=method, sam=sam, prompt=prompt)
        self.decision = decision or Decision()
        self.facts = dict(facts or {})
        self.device = choose_device(device)
        built = build_network(self.config) if network is None else network
        self.network = built.to(self.device).eval()

    @classmethod
    def from_pretrained(
        cls,
        source: PathLike,
        *,
        sam: Sam | str | None = None,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
    ) -> "AutoSam":
        """Load a trained model, key for key.

        Args:
            source: The folder of a run, or ``owner/name`` on the hub.
            sam: In the place of the SAM it names, for instance a local copy of the same weights.
            revision: Branch, tag or commit on the hub.
            token: For a private model; otherwise HF_TOKEN or the stored login is used.
            device: As for the constructor.

        Raises:
            MissingPathError: There is no such folder, or it holds no checkpoint.
            CheckpointError: A file is damaged or does not fit.
            FingerprintError: The SAM is another than the one that was trained with.
            AccessError: The hub refused or could not be reached.
        """
        loaded = load_checkpoint(source, sam=sam, revision=revision, token=token)
        return cls(
            loaded.config,
            network=loaded.network,
            decision=loaded.decision,
            facts=loaded.facts,
            device=device,
        )

    def save_pretrained(self, folder: PathLike, *, bundle: bool = False) -> Path:
        """Write config.json, model.safetensors (what was trained), preprocessor_config.json and a card.

        Args:
            folder: Made if it is not there.
            bundle: Also write the SAM itself, so that the folder needs nothing else.
        """
        return save_checkpoint(
            folder,
            self.network,
            self.config,
            decision=self.decision,
            facts=self.facts,
            bundle=bundle,
        )

    def push_to_hub(
        self,
        repository: str,
        *,
        token: str | None = None,
        private: bool = False,
        bundle: bool = False,
    ) -> str:
        """Upload to ``owner/name`` on the hub and return the address of the commit."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, bundle=bundle)
            return push_checkpoint(folder, repository, token=token, private=private)

    def predict(self, source: Source | Sequence[Source]) -> Prediction | list[Prediction]:
        """Mask one picture or many.

        Args:
            source: A path, an array ((height, width), (…, 3) or (…, 4); uint8, uint16, bool or float
                in 0..1), a PIL image; or a folder, a glob pattern or a list of these.

        Returns:
            A `Prediction`, or a list of them for a folder, pattern or list. For more pictures than
            fit in memory use `predict_each`.

        Raises:
            ImageError: A picture cannot be read.
            MissingPathError: There is no such file, or a folder or pattern finds none.
        """
        if _is_single(source):
            return self._predict_picture(*_opened(source))
        return list(self.predict_each(source))

    def predict_each(self, source: Source | Sequence[Source]) -> Iterator[Prediction]:
        """As `predict`, one at a time, so that a folder of any length fits in memory."""
        for one in [source] if _is_single(source) else _listed(source):
            yield self._predict_picture(*_opened(one))

    def _predict_picture(self, name: str, picture: Picture) -> Prediction:
        return self.predict_image(picture.image, name=name, valid=picture.valid)

    def predict_image(
        self,
        image: np.ndarray,
        *,
        name: str = "image",
        valid: np.ndarray | None = None,
        image_embedding: ImageEmbedding | None = None,
    ) -> Prediction:
        """Mask an (height, width, 3) uint8 RGB array.

        Args:
            image: The picture.
            name: For the prediction.
            valid: (height, width) bool, False where the picture has no data.
            image_embedding: (1, channels, grid, grid), from a cache, in the place of encoding.
        """
        logits = network_logits(self.network, image, image_embedding=image_embedding)
        probability = torch.sigmoid(logits / self.decision.temperature)
        return Prediction(
            name=name,
            image=image,
            probability=probability.cpu().numpy(),
            threshold=self.decision.threshold,
            valid=valid,
        )


@torch.inference_mode()
def network_logits(
    network: MaskNetwork,
    image: np.ndarray,
    *,
    image_embedding: ImageEmbedding | None = None,
) -> torch.Tensor:
    """Mask logits of one picture at its own size, (height, width) float32 on the network's device.

    The one path from picture to logits: validation, calibration, evaluation and prediction all use it.

    Args:
        network: In evaluation mode.
        image: (height, width, 3) uint8 RGB.
        image_embedding: (1, channels, grid, grid), from a cache, in the place of encoding.
    """
    device = next(iter([*network.parameters(), *network.buffers()])).device
    square, frame = to_square(image, network.side)
    squares = square[None].to(device)
    sizes = torch.tensor([frame.square_size], device=device)
    prompt_pixels = pixels = None
    if network.prompt_side != network.side or "prompt_pixels" in network.training_needs:
        antialias = getattr(getattr(network, "prompter", None), "antialias", True)
        prompt_squares = shrink_squares(squares, network.prompt_side, antialias=antialias)
        prompt_sizes = scale_sizes(sizes, network.side, network.prompt_side)
        prompt_pixels = normalise(prompt_squares, prompt_sizes)
    if image_embedding is None:
        pixels = normalise(squares, sizes)
    else:
        image_embedding = image_embedding.to(device, torch.float32)
    logits = network(pixels, image_embedding=image_embedding, prompt_pixels=prompt_pixels)
    return logits_to_original(logits[0].float(), frame)


def choose_device(device: str | None) -> torch.device:
    """The device asked for, or the best there is: CUDA, then Apple's, then the processor.

    Raises:
        ModelError: The device is unknown or not there.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"device must be one that this machine has, got {device!r} ({reason}). Try 'cpu'."
        ) from error
    return chosen


def _changed(config: Config, *, method: str | None, sam: str | None, prompt: str | None) -> Config:
    values = config.to_dict()
    if method is not None:
        values["method"] = method
    if sam is not None:
        values["sam"] = dataclasses.asdict(SamSettings(name=sam))
    if prompt is not None:
        values["prompt"] = dataclasses.asdict(PromptSettings(network=prompt))
    return config_from_dict(values)


def _is_single(source: object) -> bool:
    if isinstance(source, np.ndarray | Image):
        return True
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return False
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise ImageError(
            f"source must be a path, an array, a PIL image or a list of these, got {source!r:.60}. "
            "Convert a tensor with tensor.permute(1, 2, 0).numpy()."
        )
    path = Path(source)
    return (path.exists() and not path.is_dir()) or not (path.is_dir() or _is_pattern(path))


def _is_pattern(path: Path) -> bool:
    return any(sign in str(path) for sign in "*?[")


def _listed(source: object) -> list[Any]:
    if isinstance(source, Sequence) and not isinstance(source, str):
        if not source:
            raise ImageError("source must name at least one picture, got an empty list. Add one.")
        return list(source)
    return list(find_images(source))  # type: ignore[arg-type]


def _opened(source: Any) -> tuple[str, Picture]:
    if isinstance(source, np.ndarray | Image):
        return "image", to_picture(source)
    return Path(source).stem, read_image(source)
