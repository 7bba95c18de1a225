"""A key that differs in anything that decides the numbers, and in nothing else."""

import numpy as np
import pytest

from autosam.data import geometry
from autosam.embeddings import embedding_key, image_digest
from autosam.errors import ImageError

FACTS = {"encoder_fingerprint": "a" * 64, "side": 1024, "view": 0}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def test_one_grey_level_in_one_pixel_changes_the_digest(image):
    other = image.copy()
    other[3, 2, 1] ^= 1
    assert image_digest(image) != image_digest(other)


def test_the_same_bytes_in_another_shape_have_another_digest(image):
    assert image_digest(image) != image_digest(image.reshape(4, 6, 3))


def test_how_the_pixels_lie_in_memory_does_not_matter(image):
    reversed_twice = np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1]
    for same in (image.copy(order="F"), reversed_twice):
        assert image_digest(same) == image_digest(image)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_image_has_no_digest(wrong):
    with pytest.raises(ImageError, match=r"uint8, got \(4, 4.*read_image"):
        image_digest(wrong)


def test_every_fact_is_part_of_the_key():
    others = [
        {"encoder_fingerprint": "b" * 64},
        {"side": 512},
        {"dtype": "float32"},
        {"precision": "bfloat16"},
        *({"view": view} for view in range(1, 8)),
    ]
    keys = {embedding_key("d" * 64, **{**FACTS, **other}) for other in others}
    keys |= {embedding_key("d" * 64, **FACTS), embedding_key("e" * 64, **FACTS)}
    assert len(keys) == len(others) + 2


def test_another_geometry_has_another_key(monkeypatch):
    before = embedding_key("d" * 64, **FACTS)
    monkeypatch.setattr(geometry, "GEOMETRY_VERSION", geometry.GEOMETRY_VERSION + 1)
    assert embedding_key("d" * 64, **FACTS) != before


def test_numbers_of_numpy_name_the_same_embedding():
    numbers = {**FACTS, "side": np.int64(1024), "view": np.int32(0)}
    assert embedding_key("d" * 64, **numbers) == embedding_key("d" * 64, **FACTS)
