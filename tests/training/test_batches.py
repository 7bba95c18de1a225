import dataclasses
import itertools

import numpy as np
import pytest
import torch
from tiny_problem import LOW_SIDE, PROMPT_SIDE, SIDE, TinyNetwork, TinyPrompted, make_samples

from autosam.data.augmentation import apply_view
from autosam.data.geometry import mask_to_low, normalise, scale_sizes, shrink_squares, to_square
from autosam.embeddings import EmbeddingCache
from autosam.errors import CacheError, DataError, TrainingError
from autosam.training.batches import TrainingItems, epoch_order
from autosam.training.inputs import network_inputs
from autosam.training.loader import AddressLoader
from autosam.training.randomness import Address
from autosam.types import Sample

CPU = torch.device("cpu")


class CountingSamples(list):
    """Samples that remember how often they were read."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


@pytest.fixture
def cache(tmp_path):
    """Embeddings of ten pictures in eight views, each filled with a number of its own."""
    cache = EmbeddingCache(tmp_path, shape=(8, LOW_SIDE, LOW_SIDE))
    with cache.writer() as writer:
        for number in range(10):
            for view in range(8):
                key = _key(f"picture_{number}", view)
                if writer.claim(key):
                    writer.add(key, torch.full((8, LOW_SIDE, LOW_SIDE), number + view / 10))
    cache.refresh()
    return cache


def _key(name, view):
    return f"{int(name.removeprefix('picture_')):032x}{view:032x}"


def _cached(cache, samples=None, **changes):
    values = {"cache": cache, "cache_keys": _key, "views": range(8), "seed": 3} | changes
    return TrainingItems.of(TinyPrompted(), samples or make_samples(), **values)


def _joined(lists):
    return list(itertools.chain.from_iterable(lists))


def test_every_sample_is_in_an_epoch_once():
    order = epoch_order(12, epoch=0, seed=1, batch_size=4)
    assert sorted(_joined(order)) == list(range(12))
    assert [len(batch) for batch in order] == [4, 4, 4]


def test_each_epoch_and_seed_has_its_own_order_and_always_the_same():
    def order(epoch, seed):
        return epoch_order(12, epoch=epoch, seed=seed, batch_size=4)

    assert order(2, 7) == order(2, 7)
    assert order(2, 7) != order(3, 7)
    assert order(2, 7) != order(2, 8)


def test_an_incomplete_last_batch_is_left_out_and_another_one_in_each_epoch():
    orders = [epoch_order(10, epoch=e, seed=1, batch_size=4) for e in range(20)]
    assert all([len(batch) for batch in order] == [4, 4] for order in orders)
    assert set().union(*(_joined(order) for order in orders)) == set(range(10))


def test_processes_together_read_what_one_with_a_larger_batch_reads():
    one = epoch_order(25, epoch=4, seed=1, batch_size=6)
    three = [
        epoch_order(25, epoch=4, seed=1, batch_size=2, processes=3, process=p) for p in range(3)
    ]
    assert [_joined(slices) for slices in zip(*three, strict=True)] == one


@pytest.mark.parametrize(
    ("count", "processes", "sizes"),
    [(3, 1, [3]), (1, 1, [1]), (7, 2, [3]), (1, 2, [1]), (2, 3, [1]), (8, 2, [4])],
)
def test_a_small_set_makes_one_batch_of_equal_size_everywhere(count, processes, sizes):
    orders = [
        epoch_order(count, epoch=0, seed=0, batch_size=4, processes=processes, process=p)
        for p in range(processes)
    ]
    assert all([len(batch) for batch in order] == sizes for order in orders)
    read = _joined(order[0] for order in orders)
    assert len(set(read)) == min(count, len(read))


def test_a_batch_without_cache_brings_squares_and_low_masks():
    samples = make_samples()
    batch = TrainingItems.of(TinyNetwork(), samples)[[Address(0, 4), Address(0, 1)]]
    assert batch.names == ("picture_4", "picture_1")
    assert batch.image_embedding is None
    assert batch.prompt_squares is None
    for row, sample in enumerate((samples[4], samples[1])):
        square, frame = to_square(sample.image, SIDE)
        assert torch.equal(batch.squares[row], square)
        assert batch.sizes[row].tolist() == list(frame.square_size)
        assert torch.equal(batch.target[row], mask_to_low(sample.mask, frame, LOW_SIDE))
    assert not batch.valid[0, :, -2:].any()  # 26 x 40: padding below
    assert batch.valid[0, :, :5].all()
    assert not batch.valid[1, ..., -2:].any()  # 48 x 30: padding to the right


def test_a_batch_from_the_cache_brings_the_embedding_of_the_same_view(cache):
    items = _cached(cache)
    addresses = [Address(epoch, 6) for epoch in range(12)]
    batch = items[addresses]
    views = [items.view(address) for address in addresses]
    assert len(set(views)) > 3
    assert batch.squares is None
    for row, view in enumerate(views):
        square, _ = to_square(apply_view(items.samples[6].image, view), SIDE)
        small = shrink_squares(square[None], PROMPT_SIDE, antialias=True)[0]
        assert torch.equal(batch.prompt_squares[row], small)
        assert (batch.image_embedding[row] == torch.tensor(6 + view / 10).half()).all()


def test_views_turn_picture_and_mask_together(cache):
    items = _cached(cache)
    for epoch in range(6):
        address = Address(epoch, 2)
        batch, sample = items[[address]], items.samples[2]
        turned = apply_view(sample.mask, items.view(address))
        frame = to_square(apply_view(sample.image, items.view(address)), SIDE)[1]
        assert torch.equal(batch.target[0], mask_to_low(turned, frame, LOW_SIDE))


def test_only_the_views_asked_for_are_drawn():
    items = TrainingItems.of(TinyNetwork(), make_samples(), views=(0,))
    assert {items.view(Address(e, s)) for e in range(5) for s in range(10)} == {0}


def test_pictures_are_read_once_per_view_while_memory_lasts(cache):
    samples = CountingSamples(make_samples())
    items = _cached(cache, samples, views=(0,))
    addresses = [Address(0, index) for index in range(10)]
    first = items[addresses]
    again = items[[Address(9, index) for index in range(10)]]
    assert samples.reads == 10
    assert torch.equal(first.prompt_squares, again.prompt_squares)


def test_memory_stays_within_its_bound(cache):
    samples = CountingSamples(make_samples())
    one = 3 * PROMPT_SIDE**2 + 2 * LOW_SIDE**2
    items = _cached(cache, samples, views=(0,), memory_bytes=4 * one + 10)
    for epoch in range(2):
        items[[Address(epoch, index) for index in range(10)]]
    assert samples.reads == 10 + 6


def test_a_crop_is_the_same_in_every_process_and_another_in_each_epoch():
    def batch(epoch, others):
        items = TrainingItems.of(TinyNetwork(), make_samples(), views=range(8), crop=0.6, seed=2)
        return items[[*others, Address(epoch, 5)]]

    first, second = batch(3, []), batch(3, [Address(3, 1), Address(3, 2)])
    assert torch.equal(first.squares[0], second.squares[-1])
    assert torch.equal(first.target[0], second.target[-1])
    assert not torch.equal(first.squares[0], batch(4, []).squares[0])


def test_jitter_depends_on_picture_and_epoch_and_not_on_the_batch():
    items = TrainingItems.of(TinyNetwork(), make_samples(), seed=2)

    def pixels(addresses):
        inputs = network_inputs(items[addresses], addresses, items, device=CPU, jitter=0.4)
        return inputs["pixels"]

    together = pixels([Address(1, 3), Address(1, 7)])
    torch.testing.assert_close(together[1:], pixels([Address(1, 7)]), rtol=0, atol=0)
    assert not torch.equal(together[1:], pixels([Address(2, 7)]))


def test_pixels_are_normalised_once_and_padding_is_zero():
    items = TrainingItems.of(TinyNetwork(), make_samples())
    addresses = [Address(0, 0)]
    inputs = network_inputs(items[addresses], addresses, items, device=CPU, jitter=0.9)
    assert set(inputs) == {"pixels"}
    assert not inputs["pixels"][:, :, 21:].any()  # 26 x 40 lies in 21 of 32 rows
    assert inputs["pixels"][:, :, :21].abs().max() < 2.7


def test_cached_and_uncached_prompt_pixels_are_equal(cache):
    samples = make_samples()
    with_cache = _cached(cache, samples, views=(0,))
    without = TrainingItems.of(TinyPrompted(), samples)
    addresses = [Address(0, 1), Address(0, 2)]
    pairs = [
        network_inputs(items[addresses], addresses, items, device=CPU, jitter=0)
        for items in (with_cache, without)
    ]
    assert torch.equal(pairs[0]["prompt_pixels"], pairs[1]["prompt_pixels"])
    assert set(pairs[0]) == {"image_embedding", "prompt_pixels"}
    assert set(pairs[1]) == {"pixels", "prompt_pixels"}
    square, frame = to_square(samples[1].image, SIDE)
    sizes = scale_sizes(torch.tensor([frame.square_size]), SIDE, PROMPT_SIDE)
    small = shrink_squares(square[None], PROMPT_SIDE, antialias=True)
    assert torch.equal(pairs[0]["prompt_pixels"][:1], normalise(small, sizes))


def test_ignored_pixels_are_not_valid_on_the_low_grid():
    sample = make_samples()[0]
    valid = np.ones(sample.size, dtype=bool)
    valid[:, :20] = False
    items = TrainingItems.of(TinyNetwork(), [dataclasses.replace(sample, valid=valid)])
    batch = items[[Address(0, 0)]]
    assert not batch.valid[0, :, :, :4].any()
    assert batch.valid[0, 0, :5, 4:].all()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_reads_in_order_with_any_number_of_workers(workers):
    items = TrainingItems.of(TinyNetwork(), make_samples(), crop=0.5, seed=4)
    loader = AddressLoader(items, workers=workers)
    for epoch in range(2):
        batches = [[Address(epoch, i), Address(epoch, 9 - i)] for i in range(4)]
        for addresses, batch in loader.read(batches):
            assert torch.equal(batch.squares, items[addresses].squares)


def test_the_loader_leaves_the_generator_of_dropout_alone():
    """Torch's own would draw from it once per pass, and a resumed epoch makes one pass more."""
    items = TrainingItems.of(TinyNetwork(), make_samples())
    before = torch.get_rng_state()
    list(AddressLoader(items, workers=0).read([[Address(0, 0)]]))
    assert torch.equal(before, torch.get_rng_state())


def test_a_sample_without_mask_is_refused_by_name():
    sample = Sample(name="unlabelled_7", image=np.zeros((8, 8, 3), dtype=np.uint8))
    items = TrainingItems.of(TinyNetwork(), [sample])
    with pytest.raises(DataError, match=r"must have a mask, got none .*'unlabelled_7'"):
        items[[Address(0, 0)]]


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="at least one sample, got 0"):
        TrainingItems.of(TinyNetwork(), [])


def test_a_cache_that_cannot_serve_is_refused(cache):
    with pytest.raises(TrainingError, match=r"asks for \['pixels'\].*train.cache=false"):
        TrainingItems.of(TinyNetwork(), make_samples(), cache=cache, cache_keys=_key)
    with pytest.raises(TrainingError, match=r"train.crop must be 0 with cached .* got 0.5"):
        _cached(cache, crop=0.5)
    with pytest.raises(TrainingError, match="cache_keys must be given with a cache, got None"):
        _cached(cache, cache_keys=None)
    with pytest.raises(TrainingError, match="views must name at least one"):
        _cached(cache, views=())


def test_an_embedding_that_is_not_in_the_cache_is_an_error(cache):
    items = _cached(cache, cache_keys=lambda name, view: "f" * 64)
    with pytest.raises(CacheError, match="must be in the cache"):
        items[[Address(0, 0)]]
