"""The embedding cache: a frozen encoder runs once per image and view, ever.

Knows files, keys and when to call the encoder; knows nothing of training or of what an embedding means.
"""

from autosam.embeddings.fill import Encoder, FillReport, fill_cache
from autosam.embeddings.keys import embedding_key, image_digest
from autosam.embeddings.store import (
    CacheDescription,
    EmbeddingCache,
    cache_bytes,
    default_cache_directory,
    describe_cache,
)
from autosam.embeddings.writer import ShardWriter

__all__ = [
    "CacheDescription",
    "EmbeddingCache",
    "Encoder",
    "FillReport",
    "ShardWriter",
    "cache_bytes",
    "default_cache_directory",
    "describe_cache",
    "embedding_key",
    "fill_cache",
    "image_digest",
]
