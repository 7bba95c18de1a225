"""Encode the image, prompt, decode the mask: every method that has a SAM behind it.

Source: AutoSAM, arXiv 2306.06370. The dense prompt takes the place of SAM's no-mask embedding and the
sparse prompt is empty (section 3 of the paper); what trains is a choice. Points, boxes and masks, where a
method or a person gives them, come on top.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from autosam.errors import ModelError, did_you_mean
from autosam.models.contract import MaskNetwork, Need
from autosam.models.frozen_sam import Sam
from autosam.models.prompt_network import PromptNetwork
from autosam.models.query_decoding import decode_prompts
from autosam.types import (
    Bands,
    ImageEmbedding,
    MaskLogits,
    Pixels,
    PredictedIou,
    PromptEmbedding,
    SparsePrompt,
    SquarePrompt,
)

Part = Literal["prompter", "mask_decoder", "image_encoder"]
FREEZABLE_PARTS: tuple[Literal["mask_decoder", "image_encoder"], ...] = (
    "mask_decoder",
    "image_encoder",
)

TRAINED_PARTS: dict[str, tuple[Part, ...]] = {
    "autosam": ("prompter",),
    "autosam+decoder": ("prompter", "mask_decoder"),
    "decoder": ("mask_decoder",),
    "decoder-null": ("mask_decoder",),
    "decoder-box-full": ("mask_decoder",),
    "zero-shot": (),
    "scratch": ("prompter", "mask_decoder", "image_encoder"),
}
GEOMETRIC_METHODS = ("decoder", "decoder-box-full", "zero-shot")
"""Those whose prompt is geometry: points, boxes, a mask."""


class PromptedSam(MaskNetwork):
    """SAM with a prompter in front: image → prompt → mask, with no human in between.

    Args:
        sam: With or without its image encoder; without, every call brings the image embedding.
        prompter: Writes the dense prompt; None for SAM's own no-mask embedding.
        method: A row of `TRAINED_PARTS`, which says what trains; all else is frozen.
        checkpoint_decoder: Recompute the decoder in the backward pass, to save memory.
        iou_head: Where the mask decoder trains, also train its prediction of its own IoU.

    Raises:
        ModelError: The method is unknown, or does not fit the parts that were given.
    """

    def __init__(
        self,
        sam: Sam,
        prompter: PromptNetwork | None,
        *,
        method: str = "autosam",
        checkpoint_decoder: bool = False,
        iou_head: bool = False,
    ) -> None:
        super().__init__()
        if method not in TRAINED_PARTS:
            remedy = did_you_mean(method, TRAINED_PARTS)
            raise ModelError(f"method must be one that prompts a SAM, got {method!r}. {remedy}")
        trains = TRAINED_PARTS[method]
        if ("prompter" in trains) != (prompter is not None):
            raise ModelError(
                f"method {method!r} must {'have' if 'prompter' in trains else 'not have'} a prompt "
                "network. Build it with build_network(config)."
            )
        if "image_encoder" in trains and sam.image_encoder is None:
            raise ModelError(f"method {method!r} must train the image encoder, got a SAM without.")
        self.method = method
        self.sam = sam
        self.prompter = prompter
        self.side = sam.side
        self.low_side = sam.low_side
        self.prompt_side = prompter.side if prompter is not None else sam.side
        self.bands = tuple(prompter.bands) if prompter is not None else ()
        self._trains = trains
        self._trains_iou = iou_head and "mask_decoder" in trains
        self._checkpoint_decoder = checkpoint_decoder
        for part in FREEZABLE_PARTS:
            if part in trains:
                sam.unfreeze(part, iou_head=self._trains_iou)

    @property
    def training_needs(self) -> frozenset[Need]:
        """A frozen encoder asks for its embedding; only a prompt network looks at the picture."""
        needs: set[Need] = {"pixels" if "image_encoder" in self._trains else "image_embedding"}
        if self.prompter is not None:
            needs.add("prompt_pixels")
        if self.method in GEOMETRIC_METHODS:
            needs.add("prompts")
        return frozenset(needs)

    def forward(
        self,
        pixels: Pixels | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        prompt_pixels: Pixels | None = None,
        prompt_bands: Bands | None = None,
        prompts: Sequence[SquarePrompt] | None = None,
    ) -> MaskLogits:
        """Mask logits of token 0, the single-mask output of SAM's decoder."""
        logits, _ = self._masks(pixels, image_embedding, prompt_pixels, prompt_bands, prompts)
        return logits

    def scored(
        self,
        pixels: Pixels | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        prompt_pixels: Pixels | None = None,
        prompt_bands: Bands | None = None,
        prompts: Sequence[SquarePrompt] | None = None,
    ) -> tuple[MaskLogits, PredictedIou | None]:
        """As `forward`, with the IoU that the decoder predicts, where its head trains."""
        logits, predicted = self._masks(
            pixels, image_embedding, prompt_pixels, prompt_bands, prompts
        )
        return logits, predicted if self._trains_iou else None

    def _masks(
        self,
        pixels: Pixels | None,
        image_embedding: ImageEmbedding | None,
        prompt_pixels: Pixels | None,
        prompt_bands: Bands | None,
        prompts: Sequence[SquarePrompt] | None,
    ) -> tuple[MaskLogits, PredictedIou]:
        if image_embedding is None:
            image_embedding = self.sam.embed(_given(pixels))
        dense = self._dense(pixels, prompt_pixels, prompt_bands, image_embedding)
        image_embedding = image_embedding.to(dense.dtype)
        if prompts is None:
            return self._decode(image_embedding, dense, None)
        return decode_prompts(self.sam, image_embedding, dense, prompts, decode=self._decode)

    def _decode(
        self,
        image_embedding: ImageEmbedding,
        dense: PromptEmbedding,
        sparse: SparsePrompt | None,
    ) -> tuple[MaskLogits, PredictedIou]:
        decode = self.sam.decode_scored
        if self._checkpoint_decoder and self.training:
            masks: tuple[MaskLogits, PredictedIou] = checkpoint(
                decode, image_embedding, dense, sparse, use_reentrant=False
            )
            return masks
        return decode(image_embedding, dense, sparse)

    def _dense(
        self,
        pixels: Pixels | None,
        prompt_pixels: Pixels | None,
        prompt_bands: Bands | None,
        image_embedding: ImageEmbedding,
    ) -> PromptEmbedding:
        if self.prompter is None:
            return self.sam.no_mask_embedding(image_embedding.shape[0])
        if prompt_pixels is None:
            prompt_pixels = functional.interpolate(
                _given(pixels),
                size=(self.prompt_side, self.prompt_side),
                mode="bilinear",
                antialias=self.prompter.antialias,
            )
        prompt_embedding: PromptEmbedding = self.prompter(prompt_pixels, prompt_bands)
        return prompt_embedding

    def trained_parts(self) -> dict[str, nn.Module]:
        """The prompter, SAM's mask decoder or its image encoder, whichever train."""
        parts: dict[str, nn.Module | None] = {
            "prompter": self.prompter,
            "mask_decoder": self.sam.mask_decoder,
            "image_encoder": self.sam.image_encoder,
        }
        return {name: module for name in self._trains if (module := parts[name]) is not None}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimiser is given, by part."""
        return {
            part: [parameter for parameter in module.parameters() if parameter.requires_grad]
            for part, module in self.trained_parts().items()
        }


def _given(pixels: Pixels | None) -> Pixels:
    if pixels is None:
        raise ModelError(
            "pixels must be given where there is no image embedding or no prompt pixels, got None. "
            "Pass the normalised square, or both of the others."
        )
    return pixels
