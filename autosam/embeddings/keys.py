"""The name of an embedding: everything that decides its numbers, so that a wrong key misses."""

import hashlib
import json

import numpy as np

from autosam.data import geometry
from autosam.errors import ImageError

KEY_VERSION = 1
"""Raised when the way from square to embedding changes outside geometry and encoder weights."""


def image_digest(image: np.ndarray) -> str:
    """SHA-256 of the pixels and their shape, as hexadecimal text.

    Args:
        image: (height, width, 3) uint8, RGB; how it lies in memory does not matter.

    Raises:
        ImageError: The array is no such image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(
            f"image must be (height, width, 3) uint8, got {image.shape} {image.dtype}. "
            "Read it with autosam.data.images.read_image."
        )
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def embedding_key(
    digest: str,
    *,
    encoder_fingerprint: str,
    side: int,
    view: int,
    dtype: str = "float16",
    precision: str = "float32",
) -> str:
    """The name under which an embedding is kept, 64 hexadecimal digits.

    Args:
        digest: From `image_digest`.
        encoder_fingerprint: Of the image encoder's weights and configuration.
        side: Of the square, in pixels.
        view: Which of the eight rotations and reflections.
        dtype: In which the embedding is stored.
        precision: In which the encoder computed it.
    """
    facts = {
        "version": KEY_VERSION,
        "image": digest,
        "geometry": geometry.GEOMETRY_VERSION,
        "encoder": encoder_fingerprint,
        "side": int(side),
        "view": int(view),
        "dtype": dtype,
        "precision": precision,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
