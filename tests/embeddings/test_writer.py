"""Shards close in time, what was finished is kept, and what killed processes left goes."""

import os
from pathlib import Path

import pytest
import torch

from autosam.embeddings import EmbeddingCache, writer
from autosam.errors import CacheError

SHAPE = (3, 4, 4)
KEYS = [letter * 64 for letter in "abcde"]


def _embeddings() -> torch.Tensor:
    return torch.randn(len(KEYS), *SHAPE, generator=torch.Generator().manual_seed(5)).half()


def _open(directory: Path) -> EmbeddingCache:
    return EmbeddingCache(directory, shape=SHAPE)


def _fill(directory: Path) -> Path:
    """Write all five; returns the folder of their shape."""
    with _open(directory).writer() as shard:
        for key, embedding in zip(KEYS, _embeddings(), strict=True):
            shard.add(key, embedding)
    return directory / "float16-3x4x4"


def test_infinity_is_refused_by_the_sample_s_name(tmp_path):
    with (
        pytest.raises(CacheError, match=r"finite in float16, got infinity or NaN \(reach_7\)"),
        _open(tmp_path).writer() as shard,
    ):
        shard.add(KEYS[0], torch.full(SHAPE, 1e6), name="reach_7")
    assert not list(tmp_path.rglob("*.bin"))


def test_another_shape_is_refused(tmp_path):
    with (
        pytest.raises(CacheError, match=r"shape \(3, 4, 4\), got \(3, 4, 5\) \(reach_7\)"),
        _open(tmp_path).writer() as shard,
    ):
        shard.add(KEYS[0], torch.zeros(3, 4, 5), name="reach_7")


def test_shards_close_when_they_are_full(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_RECORDS", 2)
    _fill(tmp_path)
    assert sorted(p.stat().st_size // 96 for p in tmp_path.rglob("*.bin")) == [1, 2, 2]


def test_shards_close_when_they_are_old(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_SECONDS", -1.0)
    _fill(tmp_path)
    assert len(list(tmp_path.rglob("*.bin"))) == 5


def test_what_was_finished_is_kept_when_the_block_fails(tmp_path):
    def interrupted() -> None:
        with _open(tmp_path).writer() as shard:
            shard.add(KEYS[0], _embeddings()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(_open(tmp_path).read(KEYS[:1]), _embeddings()[:1])


def test_remains_of_killed_processes_go_once_they_are_old(tmp_path):
    folder = _fill(tmp_path)
    remains = [folder / ".1.abcd.bin", folder / "2.bin", folder / ".3.abcd.json"]
    (folder / "claims").mkdir()
    remains.append(folder / "claims" / KEYS[0])
    for path in remains:
        path.write_bytes(b"half")
    _fill(tmp_path)
    assert all(path.exists() for path in remains)  # another builder may be at work on them
    for path in [*folder.iterdir(), *remains]:
        os.utime(path, (0, 0))
    _fill(tmp_path)
    assert not any(path.exists() for path in remains)
    assert torch.equal(_open(tmp_path).read(KEYS), _embeddings())
