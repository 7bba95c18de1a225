"""Segment Anything: encode a picture, decode a prompt; frozen, but for the parts that are let train."""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autosam.errors import ModelError
from autosam.models.windowed_attention import (
    encode_in_strips,
    encodes_in_strips,
    takes_gradient,
)
from autosam.prompts.click_discs import CLICK_SETTING, ClickDiscs
from autosam.types import (
    ImageEmbedding,
    MaskLogits,
    Pixels,
    PredictedIou,
    PromptEmbedding,
    SparsePrompt,
)

Part = Literal["image_encoder", "mask_decoder"]
Encode = Callable[[Pixels], ImageEmbedding]
"""What an image encoder does, by whatever program."""


class Sam(nn.Module):
    """Segment Anything, frozen: in evaluation mode and without gradients, whatever its parent does.

    Gradient passes through it, from the mask logits to the dense prompt. A part trains, and follows
    `train()`, only after `unfreeze`.
    """

    side: int
    """Height and width of the square of pixels."""
    grid: int
    """Height and width of an embedding."""
    low_side: int
    """Height and width of the mask logits."""
    channels: int
    """Of an embedding."""
    image_encoder: nn.Module | None
    """None when only cached embeddings are decoded."""
    image_positional_embedding: Float[Tensor, "1 channels grid grid"]

    def __init__(
        self,
        model: Any,  # a SamModel; transformers' own annotations differ between its versions
        *,
        name: str,
        encoder: bool,
        encoder_fingerprint: str,
        fingerprint: str,
        is_random: bool,
    ) -> None:
        super().__init__()
        self.config: Any = model.config
        self.name = name
        self.encoder_fingerprint = encoder_fingerprint
        """Hex SHA-256 of the image encoder's weights as they were loaded."""
        self.fingerprint = fingerprint
        """Hex SHA-256 of all weights as they were loaded."""
        self.is_random = is_random
        self.side = model.config.vision_config.image_size
        self.grid = self.side // model.config.vision_config.patch_size
        self.low_side = 4 * self.grid
        self.channels = model.config.mask_decoder_config.hidden_size
        self.click_discs = _click_discs(model.config, where=name)
        """How it wants clicks drawn into its mask prompt, besides their tokens; None where it does not."""
        self.image_encoder = model.vision_encoder if encoder else None
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        with torch.no_grad():
            positional = model.get_image_wide_positional_embeddings()
        self.register_buffer("image_positional_embedding", positional, persistent=False)
        self._unfrozen: set[str] = set()
        self._encode: Encode | None = None
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Sam":
        """Keep evaluation mode, except for the parts that were unfrozen."""
        super().train(False)
        for part in self._unfrozen:
            getattr(self, part).train(mode)
        return self

    def unfreeze(self, part: Part, *, iou_head: bool = False) -> None:
        """Let a part train and follow `train()`.

        Of the mask decoder, what only makes the three other masks stays frozen, and so does the head of
        the predicted IoU unless it is asked for: no gradient ever reaches them, which distributed
        training would take for an error, and to which weight decay would still be applied.

        Args:
            part: Which.
            iou_head: With the mask decoder, also the head that predicts the IoU of its masks.

        Raises:
            ModelError: The part is not here.
        """
        module = getattr(self, part) if part in ("image_encoder", "mask_decoder") else None
        if module is None:
            raise ModelError(
                f"part must be 'image_encoder' or 'mask_decoder' and loaded, got {part!r}. "
                "Load SAM with encoder=True to train its image encoder."
            )
        module.requires_grad_(True)
        if part == "mask_decoder":
            module.iou_prediction_head.requires_grad_(iou_head)
            module.output_hypernetworks_mlps[1:].requires_grad_(False)
        self._unfrozen.add(part)

    def encode_by(self, encode: Encode | None) -> None:
        """Let another program encode, wherever no gradient is asked for; None for our own again.

        Args:
            encode: The function of this SAM's image encoder.
        """
        self._encode = encode

    def embed(self, pixels: Pixels) -> ImageEmbedding:
        """Encode pixels that were normalised once.

        Raises:
            ModelError: The encoder was left out, or the pixels are not at SAM's side.
        """
        if self.image_encoder is None:
            raise ModelError(
                "SAM must have its image encoder to encode pixels, got one without "
                f"({self.name!r}). Load it with encoder=True, or give cached embeddings."
            )
        _check_shape("pixels", pixels, (None, 3, self.side, self.side))
        if self._encode is not None and not takes_gradient(self.image_encoder, pixels):
            return self._encode(pixels)
        return self.encode_by_torch(pixels)

    def encode_by_torch(self, pixels: Pixels) -> ImageEmbedding:
        """As `embed` of a SAM that has its encoder, whatever else was let encode for it."""
        encoder = cast(nn.Module, self.image_encoder)
        if encodes_in_strips(encoder, pixels):
            return encode_in_strips(encoder, pixels)
        return cast(Tensor, encoder(pixels).last_hidden_state)

    def decode(
        self,
        image_embedding: ImageEmbedding,
        dense: PromptEmbedding,
        sparse: SparsePrompt | None = None,
    ) -> MaskLogits:
        """Decode the mask that the prompt asks for: SAM's mask token 0.

        Args:
            image_embedding: From `embed`, or from the cache in float16.
            dense: In the place of SAM's no-mask embedding, not added to it.
            sparse: Point and box tokens; None for no tokens at all.

        Raises:
            ModelError: A shape does not belong to this SAM.
        """
        logits, _ = self.decode_scored(image_embedding, dense, sparse)
        return logits

    def decode_scored(
        self,
        image_embedding: ImageEmbedding,
        dense: PromptEmbedding,
        sparse: SparsePrompt | None = None,
    ) -> tuple[MaskLogits, PredictedIou]:
        """As `decode`, with the IoU that the decoder predicts for each mask.

        Raises:
            ModelError: A shape does not belong to this SAM.
        """
        square = (self.channels, self.grid, self.grid)
        _check_shape("image embedding", image_embedding, (None, *square))
        batch = image_embedding.shape[0]
        _check_shape("dense prompt", dense, (batch, *square))
        if sparse is not None:
            _check_shape("sparse prompt", sparse, (batch, None, self.channels))
            sparse = sparse[:, None]  # transformers decodes several prompts per image; ours is one
        dtype = self.mask_decoder.iou_token.weight.dtype
        masks, predicted_iou = self.mask_decoder(
            image_embeddings=image_embedding.to(dtype),
            image_positional_embeddings=self.image_positional_embedding.expand(batch, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=False,
        )
        return cast(Tensor, masks[:, 0]), cast(Tensor, predicted_iou[:, 0, 0])

    @torch.no_grad()
    def encode_queries(
        self,
        points: Float[Tensor, "queries count 2"] | None,
        labels: Int[Tensor, "queries count"] | None,
        boxes: Float[Tensor, "queries 4"] | None,
    ) -> SparsePrompt:
        """Points and boxes as tokens, with SAM's own prompt encoder, which never trains.

        Args:
            points: (x, y) in pixel indices of the square; None for boxes alone. Without a box SAM adds
                a token that stands for none.
            labels: 1 water, 0 land.
            boxes: Left, top, right, bottom in the square; None for points alone.
        """
        sparse, _ = self.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if boxes is None else boxes[:, None],
            input_masks=None,
        )
        return cast(Tensor, sparse[:, 0])

    @torch.no_grad()
    def encode_masks(self, mask_logits: MaskLogits) -> PromptEmbedding:
        """The dense prompt of masks on the decoder's grid: logits, as the decoder itself gives them."""
        _check_shape("mask prompt", mask_logits, (None, 1, self.low_side, self.low_side))
        _, dense = self.prompt_encoder(
            input_points=None, input_labels=None, input_boxes=None, input_masks=mask_logits
        )
        return cast(Tensor, dense)

    def no_mask_embedding(self, batch: int) -> PromptEmbedding:
        """SAM's own dense prompt for "no mask was given"."""
        vector: Tensor = self.prompt_encoder.no_mask_embed.weight
        return vector.reshape(1, -1, 1, 1).expand(batch, -1, self.grid, self.grid)


def _click_discs(config: Any, *, where: str) -> ClickDiscs | None:
    values = config.prompt_encoder_config.to_dict().get(CLICK_SETTING)
    if values is None:
        return None
    try:
        return ClickDiscs(radius=float(values["radius"]), logit=float(values["logit"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{CLICK_SETTING} in SAM's config.json must hold the numbers radius and logit, got {values!r} "
            f"({where}). Correct it, or leave it out."
        ) from error


def _check_shape(what: str, tensor: Tensor, expected: tuple[int | None, ...]) -> None:
    """Compare a shape, where None stands for any size."""
    shape = tuple(tensor.shape)
    fits = len(shape) == len(expected) and all(
        wanted is None or size == wanted for size, wanted in zip(shape, expected, strict=True)
    )
    if not fits or not tensor.is_floating_point():
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise ModelError(
            f"{what} must be floating point of shape ({wanted}), got {tensor.dtype} {shape}. "
            "Prepare it for this SAM's side."
        )
