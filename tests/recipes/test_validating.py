import pytest

from autosam.data.synthetic import make_scene
from autosam.recipes import validating
from autosam.recipes.validating import KeptSamples


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
