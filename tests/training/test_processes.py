"""Several processes against one; they are real, and talk through gloo."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_problem import problem
from torch import nn

from autosam.errors import TrainingError
from autosam.training.batch_norm import _check_known, shared_batch_norm
from autosam.training.loop import fit

TOLERANCE = 1e-5
"""Relative, of losses and norms: sums are taken in another order, nothing else differs."""


def _rows(directory):
    return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_learn_what_one_with_the_doubled_batch_learns(train, tmp_path, accumulation):
    """Crops, views and jitter included; 11 samples, so the last batch is incomplete and left out."""
    changes = {"dropout": 0.0, "samples": 11, "accumulation": accumulation, "epochs": 5}
    train(tmp_path / "two", processes=2, batch_size=2, **changes)
    fit(**problem(tmp_path / "one", batch_size=4, **changes))
    rows = [_rows(tmp_path / name) for name in ("one", "two")]
    for one, two in zip(*rows, strict=True):
        assert two == pytest.approx(one, rel=TOLERANCE)
    weights = [load_file(tmp_path / name / "last.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()  # shared BatchNorm keeps its names
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-5)


def test_the_comparison_would_notice_statistics_of_half_a_batch(train, tmp_path):
    """The same without jitter at half the batch: what unshared BatchNorm would amount to differs."""
    fit(**problem(tmp_path / "small", batch_size=2, dropout=0.0, accumulation=2))
    fit(**problem(tmp_path / "large", batch_size=4, dropout=0.0, accumulation=1))
    small, large = (_rows(tmp_path / name)[0]["loss"] for name in ("small", "large"))
    assert abs(small - large) > 100 * TOLERANCE * large


def test_only_one_process_writes_and_all_end_alike(train, tmp_path):
    directory = train(tmp_path, processes=2, patience=1, learning_rate=0.5, epochs=6)
    result = json.loads((directory / "result.json").read_text())
    rows = _rows(directory)
    assert len(rows) == result["epochs"] == rows[-1]["epoch"]
    assert not [path for path in directory.rglob("*") if path.name.startswith(".")]


def test_time_runs_out_for_all_processes_together(train, tmp_path):
    directory = train(tmp_path, processes=2, time_limit=1e-3)
    result = json.loads((directory / "result.json").read_text())
    assert (result["stopped"], result["steps"]) == ("time limit", 1)


def test_a_run_of_two_processes_is_not_resumed_by_one(train, tmp_path):
    train(tmp_path, processes=2, epochs=1)
    with pytest.raises(TrainingError, match="processes: 2 then, 1 now"):
        fit(**problem(tmp_path, epochs=1), resume=True)


def test_batch_norm_is_left_alone_in_a_single_process():
    part = nn.Sequential(nn.BatchNorm2d(3))
    with shared_batch_norm([part]):
        assert "forward" not in vars(part[0])


def test_a_batch_norm_of_unknown_make_is_refused_for_several_processes():
    class Strange(nn.BatchNorm2d):
        def forward(self, features):
            return features

    with pytest.raises(TrainingError, match=r"must be torch's or timm's .* got Strange"):
        _check_known(Strange(3))
