"""Encode every image of a run once, and find the embeddings again by sample name."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from autosam.config import Config
from autosam.data.augmentation import VIEWS
from autosam.data.sources import OpenedData, SampleCollection, open_data
from autosam.data.splits import Split
from autosam.embeddings import (
    EmbeddingCache,
    cache_bytes,
    default_cache_directory,
    embedding_key,
    fill_cache,
    image_digest,
)
from autosam.errors import ConfigError
from autosam.inference.devices import choose_device
from autosam.models.frozen_sam import Sam
from autosam.models.methods import has_frozen_encoder
from autosam.models.sam import load_sam
from autosam.types import ImageEmbedding
from autosam.wording import counted

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """The cached embeddings of a collection, by sample name and view."""

    cache: EmbeddingCache
    encoder_fingerprint: str
    side: int
    digests: dict[str, str]
    """Of each sample's image, so that a key can be made without reading the image again."""

    def key(self, name: str, view: int) -> str:
        """Under which the cache holds a view of a sample."""
        return embedding_key(
            self.digests[name],
            encoder_fingerprint=self.encoder_fingerprint,
            side=self.side,
            view=view,
        )

    def embedding(self, name: str) -> ImageEmbedding:
        """(1, channels, grid, grid) float16 of the image as it is."""
        return self.cache.read([self.key(name, 0)])


def image_digests(samples: Sequence[Any]) -> dict[str, str]:
    """Digest of each sample's image by name; reads every one of them."""
    return {sample.name: image_digest(sample.image) for sample in samples}


def encode_samples(
    config: Config,
    samples: SampleCollection,
    *,
    digests: dict[str, str],
    views: Sequence[int],
    device: torch.device,
    token: str | None = None,
    say: Say,
) -> EncodedImages:
    """Fill the cache with what is missing. The image encoder is built only when something is.

    Args:
        config: Whose SAM encodes, and whose cache keeps.
        samples: All that will be asked for.
        digests: From `image_digests`.
        views: Which of the eight rotations and reflections.
        device: To encode on.
        token: For a private SAM.
        say: Told what is about to be written, and how large it is.

    Raises:
        CacheError: The cache cannot be written.
    """
    sam = _load(config, token, encoder=False)
    directory = default_cache_directory(config.cache)
    cache = EmbeddingCache(directory, shape=(sam.channels, sam.grid, sam.grid))
    encoded = EncodedImages(cache, sam.encoder_fingerprint, sam.side, digests)
    keys = [encoded.key(name, view) for name in samples.names for view in views]
    missing = cache.missing(keys)
    if missing:
        size = cache_bytes(len(missing), 1, cache.shape) / 2**20
        say(
            f"Encoding {len(missing):,} of {counted(len(keys), 'view')}, once: {size:.0f} MiB in {directory}"
        )
        sam = _load(config, token, encoder=True).to(device)
        fill_cache(cache, samples, sam, views=views, device=device)
    return encoded


def _load(config: Config, token: str | None, *, encoder: bool) -> Sam:
    revision = config.sam.revision or None
    return load_sam(config.sam.name, revision=revision, token=token, encoder=encoder)


def encode_split(
    config: Config,
    data: OpenedData,
    split: Split,
    *,
    device: torch.device,
    token: str | None = None,
    say: Say,
) -> EncodedImages | None:
    """Encode what training and validation will ask for; None where they encode at every step.

    Args:
        config: Whose SAM encodes, and whose cache keeps.
        data: What is divided.
        split: Whose test part stays unseen.
        device: For the encoder.
        token: For the hub.
        say: Told what is done.

    Raises:
        ConfigError: Crops are asked for, of which the cache knows nothing.
    """
    if not (has_frozen_encoder(config) and config.train.cache):
        return None
    if config.train.crop:
        raise ConfigError(
            f"train.crop must be 0 with cached embeddings, got {config.train.crop}: the cache knows whole "
            "pictures. Set train.cache=false to crop."
        )
    training, validation = data.samples.select(split.train), data.samples.select(split.validation)
    digests = image_digests(data.samples.select(split.train + split.validation))
    common = {"digests": digests, "device": device, "token": token, "say": say}
    views = training_views(config)
    encode_samples(config, validation, views=(0,), **common)  # type: ignore[arg-type]
    return encode_samples(config, training, views=views, **common)  # type: ignore[arg-type]


def training_views(config: Config) -> tuple[int, ...]:
    """The views that training draws from."""
    return tuple(VIEWS) if config.train.views == 8 else (0,)


def embed_data(
    config: Config, *, device: str | None = None, token: str | None = None, say: Say
) -> dict[str, Any]:
    """What `autosam embed` does: encode all images of a configuration.

    Returns:
        Counts written and reused, bytes, seconds and the cache's directory.

    Raises:
        ConfigError: The method has no frozen encoder.
    """
    if not has_frozen_encoder(config):
        raise ConfigError(
            f"method must have a frozen image encoder to embed with, got {config.method!r}. "
            "Only methods behind a frozen SAM train from a cache."
        )
    samples = open_data(config.data, token=token).samples
    sam = _load(config, token, encoder=True).to(choose_device(device))
    directory: Path = default_cache_directory(config.cache)
    cache = EmbeddingCache(directory, shape=(sam.channels, sam.grid, sam.grid))
    views = training_views(config)
    size = cache_bytes(len(samples), len(views), cache.shape) / 2**20
    images, each = counted(len(samples), "image"), counted(len(views), "view")
    say(f"{images}, {each} each: at most {size:.0f} MiB in {directory}")
    report = fill_cache(cache, samples, sam, views=views, device=choose_device(device))
    return {**dataclasses.asdict(report), "directory": str(directory)}
