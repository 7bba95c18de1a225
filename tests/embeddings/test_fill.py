"""Filling encodes exactly what is missing, once, and says what it costs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from autosam.data.augmentation import apply_view
from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD, normalise, to_square
from autosam.embeddings import (
    EmbeddingCache,
    describe_cache,
    embedding_key,
    fill,
    fill_cache,
    image_digest,
)
from autosam.errors import CacheError, ConfigError, ImageError
from autosam.types import Sample


class MeanEncoder:
    """Mean colour of each of 4 x 4 cells: an encoder whose embeddings a reader can work out."""

    side = 32
    encoder_fingerprint = "f" * 64

    def __init__(self) -> None:
        self.encoded = 0
        self.calls = 0

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        self.calls += 1
        self.encoded += len(pixels)
        return functional.adaptive_avg_pool2d(pixels, 4)


class CountedReads(Sequence):
    """Samples that count how often each is read."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples, self.reads = samples, [0] * len(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.samples[index]


def _samples(count: int) -> list[Sample]:
    generator = np.random.default_rng(0)
    return [
        Sample(name=f"scene_{n}", image=generator.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        for n in range(count)
    ]


def _open(directory: Path) -> EmbeddingCache:
    return EmbeddingCache(directory, shape=(3, 4, 4))


def _keys(samples: Sequence[Sample], views=(0,), **facts) -> list[str]:
    facts = {"encoder_fingerprint": "f" * 64, "side": 32, **facts}
    return [embedding_key(image_digest(s.image), view=v, **facts) for s in samples for v in views]


def test_a_plain_colour_is_embedded_as_its_normalised_value(tmp_path):
    colour = (10, 128, 250)
    sample = Sample(name="plain", image=np.full((16, 32, 3), colour, np.uint8))
    fill_cache(_open(tmp_path), [sample], MeanEncoder())
    (found,) = _open(tmp_path).read(_keys([sample]))
    expected = [(c - m) / s for c, m, s in zip(colour, PIXEL_MEAN, PIXEL_STD, strict=True)]
    for channel, value in enumerate(expected):
        assert found[channel, :2].float().tolist() == pytest.approx(
            np.full((2, 4), value), abs=2e-3
        )
        assert found[channel, 2:].tolist() == np.zeros((2, 4)).tolist()  # padding below


def test_each_view_is_the_encoder_s_own_answer(tmp_path, tiny_sam):
    samples = _samples(2)
    shape = (tiny_sam.channels, tiny_sam.grid, tiny_sam.grid)
    cache = EmbeddingCache(tmp_path, shape=shape)
    report = fill_cache(cache, samples, tiny_sam, views=range(8), batch_size=3)
    assert (report.written, report.reused) == (16, 0)
    facts = {"encoder_fingerprint": tiny_sam.encoder_fingerprint, "side": tiny_sam.side}
    for sample in samples:
        for view in range(8):
            square, frame = to_square(apply_view(sample.image, view), tiny_sam.side)
            with torch.no_grad():
                direct = tiny_sam.embed(normalise(square[None], torch.tensor([frame.square_size])))
            (found,) = cache.read(_keys([sample], (view,), **facts))
            torch.testing.assert_close(found.float(), direct[0], rtol=2e-3, atol=2e-3)


def test_what_is_there_is_not_encoded_again(tmp_path):
    samples, sam = _samples(5), MeanEncoder()
    first = fill_cache(_open(tmp_path), samples[:4], sam, views=(0, 3))
    second = fill_cache(_open(tmp_path), samples, sam, views=(0, 3))
    assert (first.written, first.reused, first.bytes) == (8, 0, 8 * 96)
    assert (second.written, second.reused, second.bytes) == (2, 8, 2 * 96)
    assert sam.encoded == 10


def test_another_encoder_finds_nothing(tmp_path):
    samples, other = _samples(3), MeanEncoder()
    fill_cache(_open(tmp_path), samples, MeanEncoder())
    other.encoder_fingerprint = "e" * 64
    assert fill_cache(_open(tmp_path), samples, other).written == 3


def test_each_sample_is_read_once_for_all_its_views(tmp_path):
    samples = CountedReads(_samples(3))
    fill_cache(_open(tmp_path), samples, MeanEncoder(), views=range(8), batch_size=5)
    assert samples.reads == [1, 1, 1]


def test_equal_pictures_are_encoded_once(tmp_path):
    (sample,), sam = _samples(1), MeanEncoder()
    twin = Sample(name="twin", image=sample.image.copy())
    report = fill_cache(_open(tmp_path), [sample, twin], sam)
    assert (report.written, report.reused, sam.encoded) == (1, 1, 1)


def test_batches_are_full_and_do_not_change_the_embeddings(tmp_path):
    samples, one, four = _samples(10), MeanEncoder(), MeanEncoder()
    fill_cache(_open(tmp_path / "1"), samples, one)
    fill_cache(_open(tmp_path / "4"), samples, four, batch_size=4)
    assert (one.calls, four.calls) == (10, 3)
    keys = _keys(samples)
    assert torch.equal(_open(tmp_path / "1").read(keys), _open(tmp_path / "4").read(keys))


def test_no_samples_make_no_cache(tmp_path):
    report = fill_cache(_open(tmp_path / "cache"), [], MeanEncoder())
    assert (report.written, report.reused, report.bytes) == (0, 0, 0)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["truncate", "flip", "index", "remove"])
def test_a_damaged_shard_is_rebuilt(tmp_path, damage):
    samples = _samples(6)
    fill_cache(_open(tmp_path), samples, MeanEncoder())
    whole = _open(tmp_path).read(_keys(samples))
    (data,), (index,) = tmp_path.rglob("*.bin"), tmp_path.rglob("*.json")
    content = data.read_bytes()
    if damage == "truncate":
        data.write_bytes(content[:-1])
    elif damage == "flip":
        data.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "index":
        index.write_text(index.read_text()[:-40])
    else:
        data.unlink()
    report = fill_cache(_open(tmp_path), samples, MeanEncoder())
    assert report.written == (1 if damage == "flip" else 6)
    assert torch.equal(_open(tmp_path).read(_keys(samples)), whole)
    kept = describe_cache(tmp_path)
    assert (kept["count"], kept["damaged"]) == (6, 0)
    assert fill_cache(_open(tmp_path), samples, MeanEncoder()).written == 0


def test_bfloat16_is_close_and_has_a_key_of_its_own(tmp_path, tiny_sam):
    samples = _samples(2)
    cache = EmbeddingCache(tmp_path, shape=(tiny_sam.channels, tiny_sam.grid, tiny_sam.grid))
    facts = {"encoder_fingerprint": tiny_sam.encoder_fingerprint, "side": tiny_sam.side}
    fill_cache(cache, samples, tiny_sam)
    assert fill_cache(cache, samples, tiny_sam, precision="bfloat16").written == 2
    exact = cache.read(_keys(samples, **facts)).float()
    narrow = cache.read(_keys(samples, precision="bfloat16", **facts)).float()
    error = (exact - narrow).norm() / exact.norm()
    assert 1e-5 < error < 0.05


def test_a_picture_that_fails_costs_only_itself(tmp_path):
    class OneUnreadable(CountedReads):
        def __getitem__(self, index):
            if index == 3:
                raise ImageError("scene_3 must be an image")
            return super().__getitem__(index)

    with pytest.raises(ImageError, match="scene_3"):
        fill_cache(_open(tmp_path), OneUnreadable(_samples(5)), MeanEncoder())
    assert fill_cache(_open(tmp_path), _samples(5), MeanEncoder()).written == 2


def test_an_encoder_of_another_shape_is_refused(tmp_path):
    cache = EmbeddingCache(tmp_path, shape=(3, 8, 8))
    with pytest.raises(CacheError, match=r"\(3, 8, 8\), got \(3, 4, 4\) \(scene_0\)"):
        fill_cache(cache, _samples(1), MeanEncoder())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": (8,)}, r"different numbers in 0\.\.7, got \(8,\)"),
        ({"views": (0, 0)}, r"different numbers in 0\.\.7, got \(0, 0\)"),
        ({"views": ()}, r"different numbers in 0\.\.7, got \(\)"),
        ({"batch_size": 0}, r"batch_size must be 1 or more, got 0"),
        ({"precision": "bf16"}, r"'float32' or 'bfloat16', got 'bf16'"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        fill_cache(_open(tmp_path), _samples(1), MeanEncoder(), **arguments)


def test_what_cannot_fit_is_refused_before_anything_is_encoded(tmp_path, monkeypatch):
    samples, sam = _samples(4), MeanEncoder()
    fill_cache(_open(tmp_path), samples[:2], MeanEncoder())
    usage = fill.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fill.shutil, "disk_usage", lambda path: usage._replace(free=191))
    with pytest.raises(CacheError, match=r"got 191 B free for 192 B or more .*AUTOSAM_CACHE"):
        fill_cache(_open(tmp_path), samples, sam)
    assert sam.encoded == 0
    monkeypatch.setattr(fill.shutil, "disk_usage", lambda path: usage._replace(free=192))
    assert fill_cache(_open(tmp_path), samples, sam).written == 2


def test_nothing_is_said_where_nobody_looks(tmp_path, capfd, monkeypatch):
    fill_cache(_open(tmp_path / "1"), _samples(2), MeanEncoder())
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    fill_cache(_open(tmp_path / "2"), _samples(2), MeanEncoder(), progress=False)
    assert capfd.readouterr() == ("", "")


def test_the_size_is_announced_on_the_error_stream_of_a_terminal(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    fill_cache(_open(tmp_path), _samples(2), MeanEncoder(), views=(0, 1))
    out, err = capfd.readouterr()
    assert out == ""
    assert "up to 384 B (2 images x 2 views x 96 B), 0 B there already, in" in err
    assert "4/4" in err


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2**21, "2.0 MiB"), (3_164_602_368, "2.9 GiB"), (2**52, "4096.0 TiB")],
)  # fmt: skip
def test_sizes_are_written_in_binary_units(size, text):
    assert fill._readable(size) == text
