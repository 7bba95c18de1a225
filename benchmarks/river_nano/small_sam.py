"""The small SAM while it trains: any side, batch normalisations still there, a dense head for water."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import SamConfig, SamModel

from autosam.files import replacing, write_json
from autosam.models.convolutional_encoder import ConvolutionalEncoder
from autosam.models.imagenet import lite0_weights
from autosam.models.sam_weights import POSITIONAL_KEY, TIED_POSITIONAL_KEY
from autosam.prompts.click_discs import ClickDiscs

SIDE = 512
"""For which it is written, and in whose pixels its prompt encoder counts."""
STRIDE = 16
LOW = 4
CLICK_DISCS = ClickDiscs(radius=2.5, logit=20.0)
"""How clicks are drawn into the mask prompt, besides the tokens that they have in every SAM."""
FREQUENCY = 1.0
"""Standard deviation of the random frequencies that say where a click lies, as in Meta's SAM. A default of
transformers is half the encoder's width: then two neighbours on the grid look like strangers, and no decoder
learns to follow a click."""


def small_config(backbone: str, *, channels: int) -> dict[str, Any]:
    """In the words of a hub config.json; `backbone` stands in the place of a transformer."""
    return {
        "model_type": "sam",
        "vision_config": {
            "backbone": backbone, "image_size": SIDE, "patch_size": STRIDE,
            "output_channels": channels, "num_pos_feats": channels // 2, "scale": FREQUENCY,
            # Of the transformer that is replaced: as small as it can be built.
            "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "mlp_dim": 8,
            "global_attn_indexes": [0],
        },
        "prompt_encoder_config": {
            "hidden_size": channels, "image_size": SIDE, "patch_size": STRIDE,
            "image_embedding_size": SIDE // STRIDE,
            "click_discs": dataclasses.asdict(CLICK_DISCS),
        },
        "mask_decoder_config": {
            "hidden_size": channels, "mlp_dim": 4 * channels, "num_attention_heads": 8,
            "iou_head_hidden_dim": channels, "layer_norm_eps": 1e-5,
        },
    }  # fmt: skip


class SmallSam(nn.Module):
    """Encoder, prompt encoder and mask decoder, all of which train.

    Args:
        backbone: timm's name, of EfficientNet-Lite0, which starts from ImageNet.
        channels: Of the image embedding.
        folded: Without the encoder's batch normalisations, as it is written; then it starts at random.
    """

    def __init__(self, backbone: str, *, channels: int, folded: bool = False) -> None:
        super().__init__()
        self.config, self.folded = small_config(backbone, channels=channels), folded
        model = SamModel(SamConfig.from_dict(self.config))
        self.image_encoder = ConvolutionalEncoder(
            backbone, channels=channels, trainable_norms=not folded
        ).to(memory_format=torch.channels_last)
        if not folded:
            known = self.image_encoder.trunk.state_dict()
            weights = {key: value for key, value in lite0_weights().items() if key in known}
            self.image_encoder.trunk.load_state_dict(weights)
        self.shared_image_embedding = model.shared_image_embedding
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        self.shared_image_embedding.requires_grad_(False)  # Meta's is a constant
        _start_visibly(self.prompt_encoder)
        _start_visibly(self.mask_decoder)
        self.water_head = nn.Conv2d(channels, LOW * LOW, 3, padding=1)

    def train(self, mode: bool = True) -> "SmallSam":
        """Batch statistics stay ImageNet's: batches are small, and their sides change."""
        super().train(mode)
        for module in self.image_encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def embed(self, pixels: Tensor) -> Tensor:
        """(crops, channels, grid, grid)."""
        return self.image_encoder.embed(pixels)

    def water_logits(self, embedding: Tensor) -> Tensor:
        """(crops, 1, low, low): what the embedding alone says of water."""
        return functional.pixel_shuffle(self.water_head(embedding), LOW)

    def decode(
        self,
        embedding: Tensor,
        *,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor | None,
        mask: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """(objects, masks, low, low) logits and (objects, masks) predicted IoU.

        Args:
            embedding: (objects, channels, grid, grid).
            points: (objects, count, 2) on the decoder's grid.
            labels: (objects, count): 1, 0, or -10 for no point at all.
            boxes: (objects, 4) on the decoder's grid.
            mask: (objects, 1, low, low) logits.
            multimask: The three masks of an ambiguous prompt in the place of the one.
        """
        objects, grid = len(embedding), embedding.shape[-1]
        sparse = self._sparse(points, labels, boxes, grid * LOW)
        dense = (
            self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embedding)
            if mask is None
            else self.prompt_encoder.mask_embed(mask)
        )
        masks, predicted = self.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=self._positional(grid).expand(objects, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return masks[:, 0], predicted[:, 0]

    def _sparse(
        self, points: Tensor, labels: Tensor, boxes: Tensor | None, low: int
    ) -> Tensor | None:
        scale = SIDE / low  # the prompt encoder counts in pixels of its own side
        given = points.shape[1] > 0
        if not given and boxes is None:
            return None
        sparse, _ = self.prompt_encoder(
            input_points=((points + 0.5) * scale - 0.5)[:, None] if given else None,
            input_labels=labels[:, None] if given else None,
            input_boxes=None if boxes is None else ((boxes + 0.5) * scale - 0.5)[:, None],
            input_masks=None,
        )
        return sparse[:, 0][:, None]

    def _positional(self, grid: int) -> Tensor:
        line = (torch.arange(grid) + 0.5) / grid
        y, x = torch.meshgrid(line, line, indexing="ij")
        embedded: Tensor = self.shared_image_embedding(torch.stack([x, y], dim=-1))
        return embedded.permute(2, 0, 1)[None]


def load_small_sam(folder: Path) -> SmallSam:
    """What `save_small_sam` wrote, in float32; the dense head for water, which is not written, is new."""
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    sam = SmallSam(vision["backbone"], channels=vision["output_channels"], folded=True)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    state["prompt_encoder.shared_embedding.positional_embedding"] = state[POSITIONAL_KEY]
    names = {"vision_encoder": "image_encoder"}
    renamed = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        renamed[f"{names.get(part, part)}.{rest}"] = value.float()
    missing, unexpected = sam.load_state_dict(renamed, strict=False)
    if unexpected or any(not key.startswith("water_head.") for key in missing):
        raise ValueError(f"{folder} is no small SAM: {missing} missing, {unexpected} unknown.")
    return sam


def save_trunk(sam: SmallSam, path: Path) -> None:
    """Write the encoder's trunk keyed as timm's classifier, for a prompt network to begin with."""
    state = {**lite0_weights(), **sam.image_encoder.trunk.state_dict()}
    with replacing(path) as beside:
        safetensors.torch.save_file(
            {key: value.contiguous() for key, value in state.items()}, beside
        )


def _start_visibly(module: nn.Module) -> None:
    """SAM's default start is almost zero, from which little is learnt in an hour."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            gain = 0.5 if name.endswith("out_proj") else 1.0
            nn.init.normal_(part.weight, std=gain * part.in_features**-0.5)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            fan = part.in_channels * (
                part.kernel_size[0] * part.kernel_size[1] if isinstance(part, nn.Conv2d) else 1
            )
            nn.init.normal_(part.weight, std=(2 / fan) ** 0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.5)


def save_small_sam(sam: SmallSam, folder: Path) -> None:
    """Write config.json and model.safetensors, float16, normalisations folded, as `load_sam` reads them."""
    parts = {
        "vision_encoder": sam.image_encoder if sam.folded else sam.image_encoder.folded(),
        "prompt_encoder": sam.prompt_encoder,
        "mask_decoder": sam.mask_decoder,
    }
    state = {
        f"{part}.{key}": value.detach().half().contiguous()
        for part, module in parts.items()
        for key, value in module.state_dict().items()
    }
    state[POSITIONAL_KEY] = state.pop(TIED_POSITIONAL_KEY)
    with replacing(folder / "model.safetensors") as beside:
        safetensors.torch.save_file(state, beside, metadata={"format": "pt"})
    write_json(folder / "config.json", {**sam.config, "architectures": ["SamModel"]})
