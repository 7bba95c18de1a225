"""What every method offers: picture in, mask logits out, and a word on which of its weights are its own."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from autosam.errors import CheckpointError
from autosam.models.guided_filter import GuidedFilter
from autosam.types import Bands, ImageEmbedding, MaskLogits, Pixels, PredictedIou, SquarePrompt

Need = Literal["pixels", "image_embedding", "prompt_pixels", "prompts"]


class MaskNetwork(nn.Module, abc.ABC):
    """A network that turns SAM's square of pixels into mask logits.

    Training, evaluation, inference and checkpoints know a method only through this class.
    """

    method: str
    """Its name in configurations and tables."""
    side: int
    """Height and width of the square in pixels."""
    low_side: int
    """Height and width of the mask logits."""
    prompt_side: int
    """Height and width of `prompt_pixels`; equal to `side` where there is no prompt network."""
    bands: tuple[str, ...] = ()
    """Names of the bands in `prompt_bands`, which it reads besides red, green and blue."""
    guided_filter: GuidedFilter | None = None
    """Draws its logits along the picture's edges once they are made; None leaves them."""

    @property
    @abc.abstractmethod
    def training_needs(self) -> frozenset[Need]:
        """The arguments of `forward` that training gives: a frozen encoder asks for its embedding."""

    @abc.abstractmethod
    def forward(
        self,
        pixels: Pixels | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        prompt_pixels: Pixels | None = None,
        prompt_bands: Bands | None = None,
        prompts: Sequence[SquarePrompt] | None = None,
    ) -> MaskLogits:
        """Mask logits of shape (batch, 1, low_side, low_side).

        Args:
            pixels: Normalised, at `side`. Enough alone: what else is needed is made from it.
            image_embedding: In the place of encoding `pixels`.
            prompt_pixels: In the place of shrinking `pixels` to `prompt_side`.
            prompt_bands: At `prompt_side`, in their own units; for networks with `bands`.
            prompts: One for each picture; points and boxes, on top of what the network sees itself.
        """

    def scored(
        self,
        pixels: Pixels | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        prompt_pixels: Pixels | None = None,
        prompt_bands: Bands | None = None,
        prompts: Sequence[SquarePrompt] | None = None,
    ) -> tuple[MaskLogits, PredictedIou | None]:
        """As `forward`, with the IoU that the network predicts for its own masks where that trains."""
        logits: MaskLogits = self(
            pixels, image_embedding=image_embedding, prompt_pixels=prompt_pixels,
            prompt_bands=prompt_bands, prompts=prompts,
        )  # fmt: skip
        return logits, None

    @abc.abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that train, by part: 'prompter', 'mask_decoder', 'image_encoder', 'network'."""

    @abc.abstractmethod
    def trained_parts(self) -> dict[str, nn.Module]:
        """The modules that a checkpoint must hold, by the name that prefixes their keys."""

    def trained_state(self) -> dict[str, Tensor]:
        """Weights and running statistics of the trained parts, keyed ``part.name``."""
        return {
            f"{part}.{name}": tensor
            for part, module in self.trained_parts().items()
            for name, tensor in module.state_dict().items()
        }

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `trained_state` back, key for key.

        Raises:
            CheckpointError: A key is missing or left over, or a shape differs.
        """
        own = self.trained_state()
        missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        wrong = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
        if missing or extra or wrong:
            raise CheckpointError(
                f"weights must match the {self.method!r} network key for key, got {len(missing)} missing "
                f"{missing[:3]}, {len(extra)} left over {extra[:3]}, {len(wrong)} of another shape "
                f"{sorted(wrong)[:3]}. Load them with the configuration they were saved with."
            )
        for part, module in self.trained_parts().items():
            prefix = part + "."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter that trains."""
        for parameters in self.parameter_groups().values():
            yield from parameters
