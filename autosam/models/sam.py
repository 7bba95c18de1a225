"""SAMs in and out: load, write for transformers or for Meta. The only file that knows `SamModel`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor
from transformers import SamConfig, SamModel

from autosam.errors import ModelError
from autosam.files import PathLike, replacing, write_json
from autosam.models.convolutional_encoder import BACKBONE_SETTING, ConvolutionalEncoder
from autosam.models.frozen_sam import Sam
from autosam.models.sam_nano import NANO_CONFIG, NanoTensors
from autosam.models.sam_sources import SamSource, find_sam, read_weights
from autosam.models.sam_weights import (
    ENCODER_PREFIX,
    POSITIONAL_KEY,
    TIED_POSITIONAL_KEY,
    Shape,
    config_from_shapes,
    fingerprint,
    lost_settings,
    meta_from_canonical,
)

META_LAYER_NORM_EPS = 1e-5
"""Of the mask decoder's two-way blocks. Hugging Face's configurations say 1e-6, with which Meta's weights
give other logits (by 3e-4)."""


def load_sam(
    name_or_path: PathLike,
    *,
    revision: str | None = None,
    token: str | None = None,
    encoder: bool = True,
) -> Sam:
    """Load a SAM, frozen.

    Args:
        name_or_path: 'river-nano' (small, and installed with this package), 'nano' (random weights from a
            seed), 'base', 'large' or 'huge'; a hub id; a folder with config.json and safetensors; or
            Meta's .pth file, whose architecture is read off its shapes.
        revision: Branch, tag or commit on the hub.
        token: For a private or gated model; by default the stored login or HF_TOKEN.
        encoder: False never builds the image encoder in memory. Its file is still read, one tensor at
            a time, so that both fingerprints are known.

    Raises:
        ModelError: The name is unknown, the hub cannot be reached, or it is no SAM.
        AccessError: The hub does not show this model to us.
        MissingPathError: A path is not there, or a folder lacks weights.
        CheckpointError: Weights are damaged or do not fit their architecture, key for key.
    """
    name = str(name_or_path)
    nano = name == "nano"
    source = None if nano else find_sam(name, revision=revision, token=token)
    model = _empty_model(NANO_CONFIG if source is None else source.config, where=name)
    shapes = canonical_shapes(model)
    if source is None:
        source = SamSource(where=name, config=NANO_CONFIG, tensors=NanoTensors(shapes))
    state, digests = read_weights(source, shapes, encoder=encoder)
    state[TIED_POSITIONAL_KEY] = state[POSITIONAL_KEY]
    model.load_state_dict(state, strict=False, assign=True)  # strict already, but for the encoder
    of_encoder = {key: value for key, value in digests.items() if key.startswith(ENCODER_PREFIX)}
    return Sam(
        model,
        name=name,
        encoder=encoder,
        encoder_fingerprint=fingerprint(of_encoder),
        fingerprint=fingerprint(digests),
        is_random=nano,
    )


def canonical_shapes(model: SamModel) -> dict[str, Shape]:
    """The shape of every weight, the tied positional matrix once."""
    return {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if key != TIED_POSITIONAL_KEY
    }


def _empty_model(values: Mapping[str, Any], *, where: str) -> SamModel:
    """Shapes without memory, with Meta's layer norm."""
    try:
        config: Any = SamConfig.from_dict(dict(values))
        config.mask_decoder_config.layer_norm_eps = META_LAYER_NORM_EPS
        _check_config(config, where=where)
        backbone = config.vision_config.to_dict().get(BACKBONE_SETTING)
        with torch.device("meta"):
            model: Any = SamModel(config)
            if backbone is not None:
                channels = config.vision_config.output_channels
                model.vision_encoder = ConvolutionalEncoder(backbone, channels=channels)
            return cast(SamModel, model)
    except ModelError:
        raise
    except Exception as error:  # whatever transformers raises at senseless sizes
        raise ModelError(
            f"SAM's config.json must describe a SAM that can be built, got {where} "
            f"({type(error).__name__}: {error}). Download it again."
        ) from error


def _check_config(config: Any, *, where: str) -> None:
    vision, prompt = config.vision_config, config.prompt_encoder_config
    grid = vision.image_size // vision.patch_size
    channels = {
        vision.output_channels,
        prompt.hidden_size,
        config.mask_decoder_config.hidden_size,
        2 * vision.num_pos_feats,
    }
    sides = {vision.image_size, prompt.image_size, grid * vision.patch_size}
    if len(channels) > 1 or len(sides) > 1 or prompt.image_embedding_size != grid:
        raise ModelError(
            f"SAM's three parts must agree on channels, side and grid, got channels {sorted(channels)}, "
            f"sides {sorted(sides)}, grids {grid} and {prompt.image_embedding_size} ({where}). "
            "Correct its config.json."
        )


def canonical_state(sam: Sam) -> dict[str, Tensor]:
    """Every weight by its canonical name, as it is now.

    Raises:
        ModelError: The encoder was left out.
    """
    if sam.image_encoder is None:
        raise ModelError(
            f"SAM must have its image encoder to be written, got one without ({sam.name!r}). "
            "Load it with encoder=True."
        )
    parts = {
        "vision_encoder": sam.image_encoder,
        "prompt_encoder": sam.prompt_encoder,
        "mask_decoder": sam.mask_decoder,
    }
    state = {
        f"{part}.{key}": tensor.detach().cpu().contiguous()
        for part, module in parts.items()
        for key, tensor in module.state_dict().items()
    }
    state[POSITIONAL_KEY] = state.pop(TIED_POSITIONAL_KEY)
    return state


def save_sam_hub(sam: Sam, folder: PathLike) -> None:
    """Write config.json and model.safetensors, which transformers' `SamModel` reads as they are.

    Raises:
        ModelError: The encoder was left out.
        OutputError: The folder cannot be written.
    """
    state = canonical_state(sam)
    with replacing(Path(folder) / "model.safetensors") as beside:
        safetensors.torch.save_file(state, beside, metadata={"format": "pt"})
    config = {**sam.config.to_dict(), "architectures": ["SamModel"]}
    write_json(Path(folder) / "config.json", config)


def save_sam_meta(sam: Sam, path: PathLike) -> None:
    """Write a .pth file as Meta publishes them, which `segment_anything` reads as it is.

    Raises:
        ModelError: The encoder was left out, or the format, which holds no configuration, cannot tell
            this architecture.
        OutputError: The file cannot be written.
    """
    if isinstance(sam.image_encoder, ConvolutionalEncoder):
        raise ModelError(
            f"architecture must be one that a .pth file can tell, got a convolutional encoder "
            f"({sam.name!r}). Write it with save_sam_hub."
        )
    state = canonical_state(sam)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    told = SamConfig.from_dict(config_from_shapes(shapes, where=sam.name))
    lost = lost_settings(sam.config.to_dict(), told.to_dict())
    if lost:
        raise ModelError(
            f"architecture must be one that a .pth file can tell, got {lost} ({sam.name!r}). "
            "Write it with save_sam_hub."
        )
    names = meta_from_canonical(state)
    with replacing(path) as beside:
        torch.save({names[key]: tensor for key, tensor in state.items()}, beside)
