import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_problem import (
    LOW_SIDE,
    TinyNetwork,
    TinyPrompted,
    make_samples,
    problem,
    validate,
)
from torch import nn

from autosam.embeddings import EmbeddingCache
from autosam.errors import MissingPackageError, TrainingError
from autosam.training.batches import TrainingItems, epoch_order
from autosam.training.inputs import network_inputs
from autosam.training.loop import fit
from autosam.training.losses import total_loss
from autosam.training.optimiser import build_optimiser, rate_factor, set_rates
from autosam.training.randomness import Address

PLAIN = {"crop": 0.0, "jitter": 0.0, "views": 1, "dropout": 0.0, "clip": 0.0}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    directory = tmp_path_factory.mktemp("learned")
    task = problem(directory, epochs=25, accumulation=1, save_steps=100, **PLAIN)
    return directory, task, fit(**task)


def _rows(directory):
    return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]


def test_it_learns(learned):
    directory, _, result = learned
    rows = _rows(directory)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert result.best_score > 1.5 * rows[0]["validation_iou"]


def test_the_best_and_the_last_weights_are_written(learned):
    directory, task, result = learned
    scores = [row["validation_iou"] for row in _rows(directory)]
    assert result.best_score == max(scores)
    assert result.best_epoch == int(np.argmax(scores)) + 1
    last = load_file(directory / "last.safetensors")
    assert all(torch.equal(last[k], v) for k, v in task["network"].trained_state().items())
    network = TinyNetwork(seed=3).eval()
    network.load_trained_state(load_file(directory / "best.safetensors"))
    with torch.no_grad():
        assert validate(network)["iou"] == result.best_score


def test_the_history_is_the_same_in_all_its_forms(learned):
    directory, _, result = learned
    rows = _rows(directory)
    with (directory / "history.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [{k: float(v) for k, v in row.items()} for row in table] == rows
    assert [row["epoch"] for row in rows] == list(range(1, 26))
    assert rows[-1]["step"] == result.steps == 125
    assert rows[3]["loss"] == pytest.approx(rows[3]["loss_bce"] + rows[3]["loss_dice"])
    assert len((directory / "times.jsonl").read_text().splitlines()) == 25
    picture = np.asarray(Image.open(directory / "curves.png").convert("L"))
    assert (picture < 128).mean() > 0.002  # something is drawn


def test_only_what_trains_is_changed(learned):
    _, task, _ = learned
    fresh = TinyNetwork()
    assert torch.equal(task["network"].frozen.weight, fresh.frozen.weight)
    assert task["network"].frozen.weight.grad is None
    assert not torch.equal(task["network"].head.weight, fresh.head.weight)


def test_it_is_the_loop_one_would_write_by_hand(tmp_path):
    """Five batches in groups of two, two and one: means over groups, clipping, the schedule."""
    task = problem(tmp_path, **(PLAIN | {"epochs": 2, "clip": 0.5}))
    settings, items = task["settings"], task["items"]
    by_hand = TinyNetwork()
    optimiser, losses = build_optimiser(by_hand, settings), []
    for epoch in range(2):
        order = epoch_order(10, epoch=epoch, seed=5, batch_size=2)
        for group in (order[:2], order[2:4], order[4:]):
            for batch in group:
                addresses = [Address(epoch, index) for index in batch]
                given = items[addresses]
                inputs = network_inputs(
                    given, addresses, items, device=torch.device("cpu"), jitter=0
                )
                loss, _ = total_loss(by_hand(**inputs), given.target, given.valid, settings.loss)
                (loss / len(group)).backward()
                losses.append(loss.item())
            nn.utils.clip_grad_norm_(list(by_hand.trained_parameters()), 0.5)
            step = {2: 0, 4: 1, 5: 2, 7: 3, 9: 4, 10: 5}[len(losses)]
            set_rates(optimiser, rate_factor(step, warmup=3, planned=6))
            optimiser.step()
            optimiser.zero_grad()
    fit(**task)
    for key, value in by_hand.trained_state().items():
        torch.testing.assert_close(task["network"].trained_state()[key], value, rtol=0, atol=0)
    assert _rows(tmp_path)[1]["loss"] == pytest.approx(np.mean(losses[5:]), rel=1e-12)


def test_accumulating_two_batches_is_one_of_twice_the_size(tmp_path):
    """Where nothing in the network looks at the batch: BatchNorm is in eval mode."""

    class Still(TinyNetwork):
        def train(self, mode=True):
            return super().train(False)

    networks = []
    for name, sizes in (("two", (2, 2)), ("one", (4, 1))):
        changes = PLAIN | {"samples": 12, "batch_size": sizes[0], "accumulation": sizes[1]}
        task = problem(tmp_path / name, **changes) | {"network": Still()}
        fit(**task)
        networks.append(task["network"])
    for a, b in zip(*(n.trained_parameters() for n in networks), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_step(tmp_path):
    norms = {}
    for clip in (0.0, 1e-3):
        task = problem(tmp_path / str(clip), **(PLAIN | {"epochs": 1, "clip": clip, "samples": 4}))
        fit(**task)
        norms[clip] = _rows(tmp_path / str(clip))[0]["gradient_norm"]
        moments = load_file(next((tmp_path / str(clip) / "state").glob("*/state.safetensors")))
        first = [v for k, v in moments.items() if k.endswith("|exp_avg")]
        size = torch.cat([moment.flatten() for moment in first]).norm().item() / 0.1
        assert size == pytest.approx(clip or norms[0.0], rel=1e-2)
    assert norms[0.0] == norms[1e-3]  # what is reported is before clipping


def test_it_stops_when_validation_no_longer_gets_better(tmp_path):
    scores = iter([0.5, 0.6, 0.55, 0.6, 0.59, 0.9])
    task = problem(tmp_path, epochs=6, patience=3, **PLAIN)
    result = fit(**task | {"validate": lambda network: {"iou": next(scores)}})
    assert (result.stopped, result.epochs, result.best_epoch) == ("patience", 5, 2)
    assert result.best_score == 0.6


def test_validation_sees_the_network_itself_in_eval_mode_without_gradients(tmp_path):
    seen = []

    def look(network):
        seen.append((network, network.training, torch.is_grad_enabled()))
        return {"iou": 0.1}

    task = problem(tmp_path, epochs=1, **PLAIN)
    fit(**task | {"validate": look})
    assert seen == [(task["network"], False, False)]


def test_what_validation_draws_changes_nothing(tmp_path):
    weights = []
    for name, count in (("none", 0), ("many", 50)):
        task = problem(tmp_path / name, epochs=2)
        fit(
            **task
            | {"validate": lambda network, count=count: {"iou": torch.rand(count).numel() + 1.0}}
        )
        weights.append((tmp_path / name / "last.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_the_callers_generators_are_left_as_they_were(tmp_path):
    torch.manual_seed(11), np.random.seed(11)
    expected = torch.rand(2).tolist(), np.random.rand(2).tolist()
    task = problem(tmp_path, epochs=1)
    torch.manual_seed(11), np.random.seed(11)
    fit(**task)
    assert (torch.rand(2).tolist(), np.random.rand(2).tolist()) == expected


def test_equal_runs_are_equal_and_another_seed_is_not(tmp_path):
    weights = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        torch.rand(len(weights))
        fit(**problem(tmp_path / name, epochs=1) | {"seed": seed})
        weights.append((tmp_path / name / "last.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named_with_epoch_and_step(tmp_path, poison):
    class Poisoned(TinyNetwork):
        calls = 0

        def forward(self, pixels=None, **others):
            self.calls += self.training
            return super().forward(pixels) + (poison if self.calls == 8 else 0.0)

    task = problem(tmp_path, accumulation=1, **PLAIN)
    with pytest.raises(
        TrainingError,
        match=r"got NaN or infinity \(epoch 2, step 8\)\. Try a smaller train.learning_rate",
    ):
        fit(**task | {"network": Poisoned()})
    saved = load_file(max((tmp_path / "state").iterdir()) / "state.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"iou": math.nan}, r"must give a finite 'iou', got nan \(epoch 1"),
        ({"f1": 0.5}, r"must give a finite 'iou', got nan \(epoch 1; it gives f1"),
    ],
)
def test_a_score_that_cannot_choose_is_refused(tmp_path, scores, message):
    with pytest.raises(TrainingError, match=message):
        fit(**problem(tmp_path, epochs=1) | {"validate": lambda network: scores})


def test_an_error_in_validation_keeps_its_own_name(tmp_path):
    def broken(network):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(**problem(tmp_path, epochs=1) | {"validate": broken})


def test_a_score_that_is_not_finite_beside_the_chosen_one_is_null(tmp_path):
    task = problem(tmp_path, epochs=1) | {
        "validate": lambda network: {"iou": 0.5, "hd95": math.nan}
    }
    fit(**task)
    assert _rows(tmp_path)[0]["validation_hd95"] is None


def test_a_network_without_anything_to_train_is_refused(tmp_path):
    class Nothing(TinyNetwork):
        def parameter_groups(self):
            return {}

    with pytest.raises(TrainingError, match=r"must have parameters that train, got none .*'tiny'"):
        fit(**problem(tmp_path) | {"network": Nothing()})


def test_fp16_is_refused_on_a_cpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(TrainingError, match="must be 'auto', 'no' or 'bf16' on a CPU, got 'fp16'"):
        fit(**problem(tmp_path, precision="fp16"))


def test_bf16_trains_and_leaves_the_network_in_float32(tmp_path):
    seen = []

    class Watching(TinyNetwork):
        def forward(self, pixels=None, **others):
            features = self.body(pixels)
            seen.append((features.dtype, self.training))
            return self.head(features)

    task = problem(tmp_path, epochs=1, precision="bf16", **PLAIN) | {"network": Watching()}
    fit(**task)
    assert {dtype for dtype, training in seen if training} == {torch.bfloat16}
    assert {dtype for dtype, training in seen if not training} == {torch.float32}
    assert all(v.dtype != torch.bfloat16 for v in task["network"].trained_state().values())


def test_a_cached_network_is_trained_from_embeddings(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", shape=(8, LOW_SIDE, LOW_SIDE))
    samples = make_samples()
    with cache.writer() as writer:
        for sample in samples:
            writer.claim(sample.name)
            writer.add(sample.name, torch.randn(8, LOW_SIDE, LOW_SIDE) / 10)
    cache.refresh()
    network = TinyPrompted()
    items = TrainingItems.of(network, samples, cache=cache, cache_keys=lambda name, view: name)
    task = problem(tmp_path / "run", epochs=8, accumulation=1, **PLAIN)
    scores = iter(range(8))
    fit(**task | {"network": network, "items": items, "validate": lambda n: {"iou": next(scores)}})
    rows = _rows(tmp_path / "run")
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


def test_tensorboard_gets_the_numbers_of_the_history(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(**problem(tmp_path, epochs=2, trackers=("tensorboard",)))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    sent = [(event.step, event.value) for event in events.Scalars("loss_dice")]
    rows = _rows(tmp_path)
    assert sent == [(row["step"], pytest.approx(row["loss_dice"], rel=1e-6)) for row in rows]


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match=r"got 'wandb'.*pip install 'autosam\[wandb\]'"):
        fit(**problem(tmp_path, trackers=("wandb",)))


def test_the_bar_is_silent_unless_on_a_terminal(tmp_path, capfd):
    fit(**problem(tmp_path, epochs=1) | {"progress": True})
    assert capfd.readouterr() == ("", "")
