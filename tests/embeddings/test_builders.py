"""Real processes that are killed, and real processes that build at once."""

import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from other_processes import (
    SHAPE,
    Encoder,
    build,
    build_together,
    build_with_deaths,
    claim_and_sleep,
    samples_of,
)

from autosam.embeddings import (
    EmbeddingCache,
    claims,
    embedding_key,
    fill_cache,
    image_digest,
    writer,
)
from autosam.embeddings.claims import Claims
from autosam.errors import CacheError
from autosam.types import Sample


def _keys(samples: list[Sample], views=(0,)) -> list[str]:
    facts = {"encoder_fingerprint": "f" * 64, "side": 64}
    return [embedding_key(image_digest(s.image), view=v, **facts) for s in samples for v in views]


def _open(directory: Path) -> EmbeddingCache:
    return EmbeddingCache(directory, shape=SHAPE)


def _assert_as_if_undisturbed(directory: Path, elsewhere: Path, count: int, views=(0,)) -> None:
    samples = samples_of(count)
    fill_cache(_open(elsewhere), samples, Encoder(), views=views)
    keys = _keys(samples, views)
    assert torch.equal(_open(directory).read(keys), _open(elsewhere).read(keys))


def test_after_a_kill_only_what_was_missing_is_encoded(forking, tmp_path):
    directory, samples = tmp_path / "cache", samples_of(40)
    process = forking.Process(target=build, args=(directory, 40, 0.03))
    process.start()
    deadline = time.monotonic() + 60
    while len(list(directory.glob("*/[!.]*.json"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    kept = 40 - len(_open(directory).missing(_keys(samples)))
    assert 9 <= kept < 40
    encoder = Encoder()
    report = fill_cache(_open(directory), samples, encoder)
    assert (report.reused, report.written, encoder.encoded) == (kept, 40 - kept, 40 - kept)
    _assert_as_if_undisturbed(directory, tmp_path / "undisturbed", 40)


def test_kills_at_random_moments_lose_little_and_spoil_nothing(forking, tmp_path):
    told = forking.Queue()
    process = forking.Process(target=build_with_deaths, args=(tmp_path / "cache", 50, 0.0005, told))
    process.start()
    last = told.get(timeout=120)
    process.join()
    assert last["written"] == last["encoded"] == 400 - last["reused"]
    _assert_as_if_undisturbed(tmp_path / "cache", tmp_path / "undisturbed", 50, range(8))


def test_two_processes_share_the_work_and_both_find_all_of_it(forking, tmp_path):
    directory, start, told = tmp_path / "cache", forking.Barrier(2), forking.Queue()
    arguments = (directory, 60, 0.02, start, told)
    processes = [forking.Process(target=build_together, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    reports = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(report["encoded"] for report in reports) == 60
    assert min(report["encoded"] for report in reports) > 10
    assert all(report["written"] + report["reused"] == 60 for report in reports)
    assert not list(directory.rglob("claims/*"))
    _assert_as_if_undisturbed(directory, tmp_path / "undisturbed", 60)


def test_threads_share_the_work_too(tmp_path):
    encoders = [Encoder(0.005) for _ in range(3)]

    def build(encoder: Encoder) -> None:
        fill_cache(_open(tmp_path / "cache"), samples_of(30), encoder, progress=False)

    threads = [threading.Thread(target=build, args=(encoder,)) for encoder in encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(encoder.encoded for encoder in encoders) == 30
    assert not list(tmp_path.rglob("claims/*"))
    _assert_as_if_undisturbed(tmp_path / "cache", tmp_path / "undisturbed", 30)


def test_the_work_of_a_process_that_died_is_taken_over(forking, tmp_path):
    directory, samples = tmp_path / "cache", samples_of(6)
    cache, encoder = _open(directory), Encoder()
    told = forking.Queue()
    process = forking.Process(target=claim_and_sleep, args=(directory, _keys(samples)[2:4], told))
    process.start()
    assert told.get(timeout=60)
    thread = threading.Thread(target=fill_cache, args=(cache, samples, encoder))
    thread.start()
    time.sleep(0.5)
    assert (encoder.encoded, thread.is_alive()) == (4, True)
    assert len(_open(directory)) == 4  # what waits for nobody is not held back
    process.kill()
    process.join()
    thread.join(30)
    assert encoder.encoded == 6
    _assert_as_if_undisturbed(directory, tmp_path / "undisturbed", 6)


def test_a_claim_is_exclusive_until_it_is_released(tmp_path):
    first, second = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    assert first.take("a")
    assert not second.take("a")
    assert not first.take("a")
    assert second.take("b")
    first.release(["a", "never held"])
    assert second.take("a")
    second.release_all()
    assert first.take("a")
    assert first.take("b")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no claims on Windows")
def test_a_claim_whose_file_its_last_owner_removed_is_made_anew(tmp_path, monkeypatch):
    flock, tried = claims.fcntl.flock, []

    def after_a_removal(descriptor: int, operation: int) -> None:
        if not tried:
            (tmp_path / "a").unlink()
        tried.append(descriptor)
        flock(descriptor, operation)

    first, second = Claims(tmp_path), Claims(tmp_path)
    monkeypatch.setattr(claims.fcntl, "flock", after_a_removal)
    assert first.take("a")
    assert not second.take("a")


def test_claims_are_given_back_with_each_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_RECORDS", 2)
    other = Claims(tmp_path / "float16-24x32x32" / "claims")
    with _open(tmp_path).writer() as shard:
        for key in ("a", "b", "c"):
            assert shard.claim(key)
            shard.add(key, torch.zeros(24, 32, 32))
        assert [other.take(key) for key in ("a", "b", "c")] == [True, True, False]


def test_what_another_finishes_between_look_and_claim_is_not_encoded(tmp_path, monkeypatch):
    samples, encoder, claim = samples_of(3), Encoder(), writer.ShardWriter.claim

    def too_late(self, key: str) -> bool:
        monkeypatch.setattr(writer.ShardWriter, "claim", claim)
        fill_cache(_open(tmp_path), samples, Encoder())
        return claim(self, key)

    monkeypatch.setattr(writer.ShardWriter, "claim", too_late)
    report = fill_cache(_open(tmp_path), samples, encoder)
    assert (report.written, report.reused, encoder.encoded) == (0, 3, 0)


def test_claims_in_threads_are_never_held_twice(tmp_path):
    holders, clashes = [], []

    def work() -> None:
        for _ in range(300):
            own = Claims(tmp_path)
            if own.take("a"):
                holders.append(1)
                clashes.extend([1] if len(holders) > 1 else [])
                holders.pop()
                own.release_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes


def test_a_place_where_no_claims_can_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="must be writable"):
        Claims(tmp_path / "file" / "x" / "claims").take("a")
