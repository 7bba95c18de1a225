import numpy as np
import pytest
import torch

from autosam.data.synthetic import make_scene
from autosam.recipes import validating
from autosam.recipes.validating import CHOOSES, KeptSamples, Validation
from autosam.types import Sample


class Disk:
    """Three samples, and how often each was read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.read.append(index)
        return make_scene(index, side=32)


def test_samples_that_fit_are_read_once_however_often_they_are_looked_at():
    disk = Disk()
    kept = KeptSamples(disk)
    first, again = list(kept), list(kept)
    assert disk.read == [0, 1, 2]
    assert [one.name for one in first] == [make_scene(n, side=32).name for n in range(3)]
    assert all(one is other for one, other in zip(first, again, strict=True))
    assert kept[1:] == [first[1], first[2]]


def test_samples_that_do_not_fit_are_read_each_time(monkeypatch):
    size = make_scene(0, side=32).image.nbytes * 5 // 3
    monkeypatch.setattr(validating, "MEMORY_BYTES", size)
    disk = Disk()
    kept = KeptSamples(disk)
    assert len([*kept, *kept]) == 6
    assert disk.read == [0, 1, 2, 1, 2]


def test_a_sample_that_cannot_be_read_ends_no_pass_early():
    class Broken(Disk):
        def __getitem__(self, index):
            raise IndexError("a fault in decoding")

    with pytest.raises(IndexError, match="decoding"):
        list(KeptSamples(Broken()))


class SaysLogits:
    """A model whose network answers what it is told, for every sample."""

    network = None

    def judged(self, sample):
        return sample

    def prompt_for(self, sample, *, image_embedding):
        return None


def _judge(monkeypatch, answers, samples):
    monkeypatch.setattr(
        validating,
        "network_logits",
        lambda network, sample, **_: torch.from_numpy(np.where(answers[sample.name], 2.0, -2.0)),
    )
    return Validation(SaysLogits(), samples, None)(None)


def test_a_network_that_finds_nothing_is_worse_than_one_with_a_false_pixel(monkeypatch):
    image, truth = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), bool)
    truth[:4] = True
    samples = [
        Sample(name="wet", image=image, mask=truth),
        Sample(name="dry", image=image, mask=np.zeros_like(truth)),
    ]
    half, pixel = truth.copy(), np.zeros_like(truth)
    half[:2], pixel[0, 0] = False, True
    silent = _judge(
        monkeypatch, {"wet": np.zeros_like(truth), "dry": np.zeros_like(truth)}, samples
    )
    finding = _judge(monkeypatch, {"wet": half, "dry": pixel}, samples)
    assert silent == {"iou": 0.5, CHOOSES: 0.0}
    assert finding == {"iou": 0.25, CHOOSES: pytest.approx(0.5 * 0.99)}


def test_what_is_not_valid_is_neither_water_nor_false_water(monkeypatch):
    image, truth = np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
    sample = Sample(name="masked", image=image, mask=truth, valid=~truth)
    found = _judge(monkeypatch, {"masked": truth}, [sample])
    assert found == {"iou": 1.0, CHOOSES: 1.0}
