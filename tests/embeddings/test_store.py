"""What was written is read back to the bit, and what was damaged is never read."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from other_processes import read_pickled
from torch.utils.data import DataLoader

from autosam.config import CacheSettings
from autosam.embeddings import (
    EmbeddingCache,
    cache_bytes,
    default_cache_directory,
    describe_cache,
)
from autosam.errors import CacheError

SHAPE = (3, 4, 4)
KEYS = [letter * 64 for letter in "abcde"]


def _embeddings() -> torch.Tensor:
    return torch.randn(len(KEYS), *SHAPE, generator=torch.Generator().manual_seed(5)).half()


def _fill(directory: Path, shards: int = 1) -> EmbeddingCache:
    """Five embeddings in one shard, or in as many as asked."""
    cache = EmbeddingCache(directory, shape=SHAPE)
    with cache.writer() as shard:
        for position, (key, embedding) in enumerate(zip(KEYS, _embeddings(), strict=True)):
            shard.add(key, embedding)
            if position + 1 < shards:
                shard.flush()
    return cache


def _open(directory: Path) -> EmbeddingCache:
    return EmbeddingCache(directory, shape=SHAPE)


def _only(directory: Path, pattern: str) -> Path:
    (path,) = directory.rglob(pattern)
    return path


def _change_index(directory: Path, **changes: object) -> None:
    path = _only(directory, "*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("shards", [1, 5])
def test_embeddings_come_back_to_the_bit_in_the_order_asked(tmp_path, shards):
    _fill(tmp_path, shards)
    order = [3, 0, 4, 4, 1]
    found = _open(tmp_path).read([KEYS[n] for n in order])
    assert found.dtype == torch.float16
    assert torch.equal(found, _embeddings()[order])


def test_the_file_is_plain_little_endian_numbers(tmp_path):
    _fill(tmp_path)
    numbers = np.frombuffer(_only(tmp_path, "*.bin").read_bytes(), "<f2")
    np.testing.assert_array_equal(numbers.reshape(5, *SHAPE), _embeddings().numpy())


def test_what_was_written_can_be_read_at_once_and_by_a_cache_opened_before(tmp_path):
    before = _open(tmp_path)
    cache = _fill(tmp_path)
    assert cache.missing([*KEYS, "f" * 64]) == before.missing([*KEYS, "f" * 64]) == ["f" * 64]
    assert torch.equal(cache.read(KEYS), before.read(KEYS))


def test_an_unknown_key_misses_and_is_not_read(tmp_path):
    cache = _fill(tmp_path)
    assert "f" * 64 not in cache
    with pytest.raises(
        CacheError, match=r"got none for key ffffffffffff \(.*5 there.*autosam embed"
    ):
        cache.read([KEYS[0], "f" * 64])


def test_shapes_and_dtypes_in_one_directory_do_not_meet(tmp_path):
    _fill(tmp_path)
    other = EmbeddingCache(tmp_path, shape=(4, 3, 4))
    wide = EmbeddingCache(tmp_path, shape=SHAPE, dtype="float32")
    assert other.missing(KEYS) == wide.missing(KEYS) == KEYS


def test_float32_is_kept_whole(tmp_path):
    cache = EmbeddingCache(tmp_path, shape=(2,), dtype="float32")
    with cache.writer() as shard:
        shard.add(KEYS[0], torch.tensor([1e30, 1 / 3]))
    assert torch.equal(cache.read(KEYS[:1]), torch.tensor([[1e30, 1 / 3]]))


def test_a_tensor_that_is_given_is_filled(tmp_path):
    cache, out = _fill(tmp_path), torch.empty(2, *SHAPE, dtype=torch.float16)
    assert cache.read(KEYS[1:3], out=out) is out
    assert torch.equal(out, _embeddings()[1:3])


@pytest.mark.parametrize(
    "out",
    [torch.empty(1, *SHAPE), torch.empty(2, *SHAPE).half(), torch.empty(4, 4, 3, 1).half().mT],
)
def test_a_tensor_that_does_not_fit_is_refused(tmp_path, out):
    with pytest.raises(CacheError, match=r"contiguous \(1, 3, 4, 4\) torch.float16, got \("):
        _fill(tmp_path).read(KEYS[:1], out=out)


def test_reading_nothing_gives_an_empty_tensor(tmp_path):
    assert _open(tmp_path).read([]).shape == (0, *SHAPE)


@pytest.mark.parametrize("left", [0, 1, 96, 479])
def test_a_truncated_shard_is_not_there(tmp_path, left):
    _fill(tmp_path)
    os.truncate(_only(tmp_path, "*.bin"), left)
    cache = _open(tmp_path)
    assert cache.missing(KEYS) == KEYS
    assert describe_cache(tmp_path) == {"count": 0, "bytes": 0, "shards": 0, "damaged": 1}
    cache.remove_damaged()
    assert not [*tmp_path.rglob("*.bin"), *tmp_path.rglob("*.json")]


def test_a_shard_truncated_after_opening_is_not_read(tmp_path):
    _fill(tmp_path)
    cache = _open(tmp_path)
    os.truncate(_only(tmp_path, "*.bin"), 96)
    with pytest.raises(CacheError, match="undamaged"):
        cache.read(KEYS[1:2])


@pytest.mark.parametrize("position", [0, 95, 96 * 2 + 7])
def test_one_flipped_bit_is_found_and_the_other_records_stay(tmp_path, position):
    _fill(tmp_path)
    path = _only(tmp_path, "*.bin")
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)
    cache, damaged = _open(tmp_path), KEYS[position // 96]
    with pytest.raises(CacheError, match=f"undamaged, got none for key {damaged[:12]}"):
        cache.read(KEYS)
    cache.remove_damaged()
    reopened = _open(tmp_path)
    assert reopened.missing(KEYS) == [damaged]
    kept = [n for n, key in enumerate(KEYS) if key != damaged]
    assert torch.equal(reopened.read([KEYS[n] for n in kept]), _embeddings()[kept])


def test_a_whole_copy_serves_where_another_is_damaged(tmp_path):
    _fill(tmp_path)
    _fill(tmp_path)
    path = min(tmp_path.rglob("*.bin"))
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(_open(tmp_path).read(KEYS), _embeddings())


def test_a_reader_survives_that_another_process_takes_a_shard_away(tmp_path):
    reader = _fill(tmp_path)
    for path in [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.bin")]:
        path.unlink()
    _fill(tmp_path)
    assert torch.equal(reader.read(KEYS), _embeddings())


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"shape": [4, 4, 3]},
        {"dtype": "float32"},
        {"bytes": 479},
        {"records": {}},
        {"records": {"a": [5, 0]}},
        {"records": {"a": "b"}},
        {"records": 3},
    ],
)
def test_an_index_that_does_not_fit_its_shard_is_damaged(tmp_path, changes):
    _fill(tmp_path)
    _change_index(tmp_path, **changes)
    assert len(_open(tmp_path)) == 0
    assert describe_cache(tmp_path)["damaged"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\x00"])
def test_an_index_that_is_no_index_is_damaged(tmp_path, text):
    _fill(tmp_path)
    _only(tmp_path, "*.json").write_text(text)
    assert _open(tmp_path).missing(KEYS) == KEYS


def test_an_index_of_a_newer_version_is_refused_and_kept(tmp_path):
    _fill(tmp_path)
    _change_index(tmp_path, version=2)
    with pytest.raises(CacheError, match=r"version 1 or older, got 2 \(.*json\)\. Update autosam"):
        _open(tmp_path)
    assert _only(tmp_path, "*.bin").stat().st_size == 480


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"must be a folder.*file \(Not a directory\)"):
        _open(tmp_path / "file")
    with pytest.raises(CacheError, match=r"must be a folder"):
        describe_cache(tmp_path / "file")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((), "float16"), ((0, 2), "float16"), ((2,), "bfloat16")]
)
def test_a_shape_or_dtype_that_cannot_be_kept_is_refused(tmp_path, shape, dtype):
    with pytest.raises(CacheError, match=r"positive sizes and a dtype of float16, float32, got"):
        EmbeddingCache(tmp_path, shape=shape, dtype=dtype)


def test_opening_and_describing_write_nothing(tmp_path):
    _open(tmp_path / "absent")
    assert describe_cache(tmp_path / "absent")["count"] == 0
    assert not (tmp_path / "absent").exists()


def test_the_description_counts_all_shapes_and_passes_strangers_over(tmp_path):
    _fill(tmp_path, shards=2)
    with EmbeddingCache(tmp_path, shape=(2,)).writer() as shard:
        shard.add(KEYS[0], torch.ones(2))
    (tmp_path / "notes").mkdir()
    (tmp_path / "float16-notes.txt").write_text("")
    assert describe_cache(tmp_path) == {"count": 6, "bytes": 484, "shards": 3, "damaged": 0}


def test_a_pickled_cache_opens_its_own_maps(tmp_path):
    cache = _fill(tmp_path)
    cache.read(KEYS)
    pickled = pickle.dumps(cache)
    assert _embeddings()[0].numpy().tobytes() not in pickled
    assert torch.equal(pickle.loads(pickled).read(KEYS), _embeddings())


def test_another_process_reads_from_a_pickled_cache(forking, tmp_path):
    told = forking.Queue()
    content = pickle.dumps(_fill(tmp_path / "cache"))
    process = forking.Process(target=read_pickled, args=(content, KEYS, told))
    process.start()
    assert told.get(timeout=60) == _embeddings().numpy().tobytes()
    process.join()


def test_data_loader_workers_read_what_their_parent_had_open(tmp_path):
    cache = _fill(tmp_path, shards=3)
    cache.read(KEYS)
    loader = DataLoader(KEYS, batch_size=2, num_workers=2, collate_fn=cache.read)
    assert torch.equal(torch.cat(list(loader)), _embeddings())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files cannot be counted here")
def test_open_maps_hold_no_open_files(tmp_path):
    cache = _fill(tmp_path, shards=5)
    before = len(os.listdir("/proc/self/fd"))
    cache.read(KEYS)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("count", "views", "expected"),
    [(1, 1, 2 * 2**20), (1509, 1, 3_164_602_368), (1509, 8, 25_316_818_944)],
)
def test_sizes_announced_are_those_of_the_reference(count, views, expected):
    assert cache_bytes(count, views, (256, 64, 64)) == expected


def test_the_directory_is_the_chosen_one_then_the_environment_s_then_the_user_s(monkeypatch):
    monkeypatch.setenv("AUTOSAM_CACHE", "/from/environment")
    monkeypatch.setenv("XDG_CACHE_HOME", "/from/xdg")
    monkeypatch.setenv("HOME", "/from/home")
    assert default_cache_directory(CacheSettings(directory="~/own")) == Path("/from/home/own")
    assert default_cache_directory(CacheSettings()) == Path("/from/environment")
    monkeypatch.delenv("AUTOSAM_CACHE")
    assert default_cache_directory(CacheSettings()) == Path("/from/xdg/autosam/embeddings")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_directory(CacheSettings()) == Path("/from/home/.cache/autosam/embeddings")
