"""Disks that are full or may not be written: one clear error, and nothing half-written."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from autosam.embeddings import EmbeddingCache, describe_cache, shards, writer
from autosam.errors import CacheError

SHAPE = (64, 32, 32)  # 128 KiB each
KEYS = [f"{n:064x}" for n in range(40)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB in memory."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def _embedding(key: str) -> torch.Tensor:
    return torch.full(SHAPE, float(int(key, 16) + 1))


def _fill(directory: Path, keys: list[str]) -> None:
    cache = EmbeddingCache(directory, shape=SHAPE)
    with cache.writer() as shard:
        for key in cache.missing(keys):
            shard.add(key, _embedding(key))


def _assert_nothing_is_half_written(directory: Path) -> int:
    """How many embeddings are there, all of them whole."""
    folder = directory / "float16-64x32x32"
    files = {path.name for path in folder.iterdir() if path.is_file()}
    stems = {name.removesuffix(".json") for name in files if name.endswith(".json")}
    assert files == {f"{stem}{suffix}" for stem in stems for suffix in (".bin", ".json")}
    assert not list((folder / "claims").glob("*"))
    cache = EmbeddingCache(directory, shape=SHAPE)
    present = [key for key in KEYS if key in cache]
    for key, found in zip(present, cache.read(present), strict=True):
        assert torch.equal(found, _embedding(key).half())
    return len(present)


def test_a_full_disk_is_one_error_and_nothing_is_half_written(small_disk, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_RECORDS", 4)
    with pytest.raises(CacheError, match=r"have room, got 'No space left on device' \(.*AUTOSAM"):
        _fill(small_disk, KEYS)
    kept = _assert_nothing_is_half_written(small_disk)
    assert 8 <= kept < 16
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    _fill(small_disk, KEYS)
    assert _assert_nothing_is_half_written(small_disk) == 40


def test_a_disk_that_may_not_be_written_serves_and_refuses_more(small_disk):
    _fill(small_disk, KEYS[:3])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert _assert_nothing_is_half_written(small_disk) == 3
    with pytest.raises(CacheError, match=r"must be writable.*got 'Read-only file system'"):
        _fill(small_disk, KEYS[:4])


def test_a_claim_on_a_disk_that_may_not_be_written_is_refused(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with (
        pytest.raises(CacheError, match=r"must be writable.*got 'Read-only file system'"),
        EmbeddingCache(small_disk, shape=SHAPE).writer() as shard,
    ):
        shard.claim(KEYS[0])


def _no_space(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_disk_that_fills_up_at_any_step_leaves_nothing(tmp_path, monkeypatch, step):
    _fill(tmp_path, KEYS[:2])
    with monkeypatch.context() as patched:
        patched.setattr(os, step, _no_space)
        with pytest.raises(CacheError, match=r"got 'No space left on device'"):
            _fill(tmp_path, KEYS[:4])
    assert _assert_nothing_is_half_written(tmp_path) == 2


@pytest.mark.parametrize("error", [_no_space, pytest.fail])
def test_data_does_not_stay_when_its_index_cannot_be_written(
    tmp_path, monkeypatch, error: Callable
):
    _fill(tmp_path, KEYS[:2])
    with monkeypatch.context() as patched:
        patched.setattr(shards, "write_json", lambda path, value: error("interrupted"))
        with pytest.raises((CacheError, pytest.fail.Exception)):
            _fill(tmp_path, KEYS[:4])
    assert _assert_nothing_is_half_written(tmp_path) == 2


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:1000]))
    _fill(tmp_path, KEYS[:2])
    assert _assert_nothing_is_half_written(tmp_path) == 2
    assert describe_cache(tmp_path)["bytes"] == 2 * 131072


def test_a_folder_in_whose_place_a_file_is_cannot_be_opened(tmp_path):
    (tmp_path / "float16-64x32x32").write_text("")
    with pytest.raises(CacheError, match=r"must be a folder that can be read, got .*64x32x32"):
        EmbeddingCache(tmp_path, shape=SHAPE)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CacheError, match=r"must be writable.*Permission denied"):
        _fill(tmp_path, KEYS[:1])
