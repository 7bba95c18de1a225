"""Real processes that are killed, and real processes that build at once."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

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

COMMON = """
import json, os, random, signal, sys, time
import numpy as np, torch
from torch.nn import functional
from autosam.embeddings import EmbeddingCache, fill_cache, writer
from autosam.embeddings.claims import Claims
from autosam.types import Sample

torch.set_num_threads(1)
writer.SHARD_RECORDS = 3

class Encoder:
    side, encoder_fingerprint, encoded = 64, "f" * 64, 0

    def embed(self, pixels):
        time.sleep(seconds * len(pixels))
        self.encoded += len(pixels)
        return functional.adaptive_avg_pool2d(pixels, 32).repeat(1, 8, 1, 1)

def samples(count):
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    return [Sample(name=f"scene_{n}", image=picture) for n, picture in enumerate(pictures)]

def build(count, views=(0,)):
    cache, encoder = EmbeddingCache(directory, shape=(24, 32, 32)), Encoder()
    report = fill_cache(cache, samples(count), encoder, views=views, batch_size=2, progress=False)
    return {"encoded": encoder.encoded, "written": report.written, "reused": report.reused}

directory, seconds = sys.argv[1], float(sys.argv[2])
"""


def _script(body: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", COMMON + body, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class Encoder:
    side, encoder_fingerprint = 64, "f" * 64

    def __init__(self, seconds: float = 0.0) -> None:
        self.encoded, self.seconds = 0, seconds

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds * len(pixels))
        self.encoded += len(pixels)
        return functional.adaptive_avg_pool2d(pixels, 32).repeat(1, 8, 1, 1)


def _samples(count: int) -> list[Sample]:
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    return [Sample(name=f"scene_{n}", image=picture) for n, picture in enumerate(pictures)]


def _keys(samples: list[Sample], views=(0,)) -> list[str]:
    facts = {"encoder_fingerprint": "f" * 64, "side": 64}
    return [embedding_key(image_digest(s.image), view=v, **facts) for s in samples for v in views]


def _open(directory: Path) -> EmbeddingCache:
    return EmbeddingCache(directory, shape=(24, 32, 32))


def _assert_as_if_undisturbed(directory: Path, elsewhere: Path, count: int, views=(0,)) -> None:
    samples = _samples(count)
    fill_cache(_open(elsewhere), samples, Encoder(), views=views)
    keys = _keys(samples, views)
    assert torch.equal(_open(directory).read(keys), _open(elsewhere).read(keys))


def test_after_a_kill_only_what_was_missing_is_encoded(tmp_path):
    directory, samples = tmp_path / "cache", _samples(40)
    process = _script("build(40)", directory, 0.03)
    deadline = time.monotonic() + 60
    while len(list(directory.glob("*/[!.]*.json"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = 40 - len(_open(directory).missing(_keys(samples)))
    assert 9 <= kept < 40
    encoder = Encoder()
    report = fill_cache(_open(directory), samples, encoder)
    assert (report.reused, report.written, encoder.encoded) == (kept, 40 - kept, 40 - kept)
    _assert_as_if_undisturbed(directory, tmp_path / "undisturbed", 40)


def test_kills_at_random_moments_lose_little_and_spoil_nothing(tmp_path):
    body = """
random.seed(7)
for attempt in range(8):
    child = os.fork()
    if child == 0:
        build(50, range(8))
        os._exit(0)
    time.sleep(random.uniform(0.05, 0.4))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(json.dumps(build(50, range(8))))
"""
    process = _script(body, tmp_path / "cache", 0.0005)
    last = json.loads(process.communicate(timeout=120)[0])
    assert last["written"] == last["encoded"] == 400 - last["reused"]
    _assert_as_if_undisturbed(tmp_path / "cache", tmp_path / "undisturbed", 50, range(8))


def test_two_processes_share_the_work_and_both_find_all_of_it(tmp_path):
    body = """
print("ready", flush=True)
while not os.path.exists(sys.argv[3]):
    time.sleep(0.001)
print(json.dumps(build(60)))
"""
    directory, start = tmp_path / "cache", tmp_path / "start"
    processes = [_script(body, directory, 0.02, start) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    start.touch()
    reports = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(report["encoded"] for report in reports) == 60
    assert min(report["encoded"] for report in reports) > 10
    assert all(report["written"] + report["reused"] == 60 for report in reports)
    assert not list(directory.rglob("claims/*"))
    _assert_as_if_undisturbed(directory, tmp_path / "undisturbed", 60)


def test_threads_share_the_work_too(tmp_path):
    encoders = [Encoder(0.005) for _ in range(3)]

    def build(encoder: Encoder) -> None:
        fill_cache(_open(tmp_path / "cache"), _samples(30), encoder, progress=False)

    threads = [threading.Thread(target=build, args=(encoder,)) for encoder in encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(encoder.encoded for encoder in encoders) == 30
    assert not list(tmp_path.rglob("claims/*"))
    _assert_as_if_undisturbed(tmp_path / "cache", tmp_path / "undisturbed", 30)


def test_the_work_of_a_process_that_died_is_taken_over(tmp_path):
    directory, samples = tmp_path / "cache", _samples(6)
    cache, encoder = _open(directory), Encoder()
    body = """
claims = Claims(__import__("pathlib").Path(directory) / "float16-24x32x32" / "claims")
print(all(claims.take(key) for key in sys.argv[3:]), flush=True)
time.sleep(60)
"""
    process = _script(body, directory, 0, *_keys(samples)[2:4])
    assert process.stdout.readline() == "True\n"
    thread = threading.Thread(target=fill_cache, args=(cache, samples, encoder))
    thread.start()
    time.sleep(0.5)
    assert (encoder.encoded, thread.is_alive()) == (4, True)
    assert len(_open(directory)) == 4  # what waits for nobody is not held back
    process.kill()
    process.communicate()
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
    samples, encoder, claim = _samples(3), Encoder(), writer.ShardWriter.claim

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
