import json
import math
import sys
import types

import numpy as np
import pytest
from PIL import Image

from autosam.errors import ConfigError, TrainingError
from autosam.training.history import History
from autosam.training.trackers import open_trackers
from autosam.training.weights import remove_leftovers


def _append(history, epoch, **values):
    row = {"epoch": epoch, "step": epoch * 5, "loss": 1 / epoch, "learning_rate": 1e-3} | values
    history.append(row, {"epoch": epoch, "training_seconds": 1.5})


def test_rows_are_written_as_json_lines_and_csv(tmp_path):
    history = History(tmp_path)
    _append(history, 1, validation_iou=0.1 + 0.2)
    _append(history, 2, validation_iou=math.nan)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines[0]["validation_iou"] == 0.1 + 0.2
    assert lines[1]["validation_iou"] is None
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,step,loss,learning_rate,validation_iou\n"
        "1,5,1.0,0.001,0.30000000000000004\n"
        "2,10,0.5,0.001,\n"
    )


def test_rows_that_the_state_does_not_know_are_cut_off(tmp_path):
    for epoch in (1, 2, 3):
        history = history if epoch > 1 else History(tmp_path)
        _append(history, epoch)
    resumed = History(tmp_path)
    resumed.resume(2)
    assert [row["epoch"] for row in resumed.rows] == [1, 2]
    for name in ("history.jsonl", "times.jsonl"):
        assert len((tmp_path / name).read_text().splitlines()) == 2
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


def test_damaged_or_missing_rows_are_refused(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(TrainingError, match=r"history.jsonl must be JSON lines, got damage"):
        History(tmp_path).resume(1)
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(TrainingError, match="must hold the 4 rows of the state, got 1"):
        History(tmp_path).resume(4)


def test_curves_have_a_panel_for_losses_scores_and_rate(tmp_path):
    history = History(tmp_path)
    for epoch in range(1, 6):
        _append(history, epoch, loss_bce=0.5, validation_iou=math.nan if epoch == 2 else 0.7)
    history.draw()
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    coloured = (picture.max(axis=2) - picture.min(axis=2) > 60).any(axis=1)
    thirds = np.array_split(coloured, 3)
    assert all(part.any() for part in thirds)


def test_a_run_without_rows_can_be_drawn(tmp_path):
    History(tmp_path).draw()
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_wandb_gets_settings_and_numbers_and_is_resumed_by_its_id(tmp_path, monkeypatch):
    """A stand-in for the package records what it is told."""
    told = []

    def init(**arguments):
        told.append(arguments)
        return types.SimpleNamespace(
            id="abc",
            log=lambda values, step: told.append((step, values)),
            finish=lambda: told.append("end"),
        )

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for step in (0, 40):
        (tracker,) = open_trackers(["wandb"], tmp_path, {"seed": 5}, step=step)
        tracker.log({"loss": 0.5}, step=step + 1)
        tracker.close()
    assert told[0]["config"] == {"seed": 5}
    assert (told[0]["id"], told[3]["id"]) == (None, "abc")
    assert told[1:3] == [(1, {"loss": 0.5}), "end"]


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"'tensorbord' is not a tracker. Did you mean 'tensorboard'"
    ):
        open_trackers(["tensorbord"], tmp_path, {}, step=0)


def test_only_the_leftovers_of_a_killed_run_are_removed(tmp_path):
    kept = ["best.safetensors", ".hidden", ".best.safetensors", ".mine.0123abcd.png"]
    half = [
        ".best.0123abcd.safetensors",
        ".history.00000000.csv",
        ".tmpeAXV60",
    ]  # the last is safetensors' own
    for name in [*kept, *half]:
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
