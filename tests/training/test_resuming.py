import json
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from tiny_problem import problem

from autosam.errors import TrainingError
from autosam.training.loop import fit

FILES = ["best.safetensors", "last.safetensors", "history.jsonl", "history.csv"]


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("uninterrupted"))


def _newest_state(directory):
    folders = [f for f in (directory / "state").iterdir() if f.name.isdigit()]
    return max(folders, key=lambda folder: folder.name)


def _assert_equal_to_the_bit(one, other):
    """Weights, history, optimiser, generators and standing; only the clock may differ."""
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    states = [load_file(_newest_state(folder) / "state.safetensors") for folder in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert any(".moments" in key or key.startswith("moments.") for key in states[0])
    for key in states[0]:
        assert torch.equal(states[0][key], states[1][key]), key
    described = [json.loads((_newest_state(f) / "state.json").read_text()) for f in (one, other)]
    for state in described:
        del state["standing"]["seconds"]
    assert described[0] == described[1]
    assert not [path for path in other.rglob("*") if path.name.startswith(".")]


def _saves(directory):
    folder = directory / "state"
    return max((int(f.name) for f in folder.glob("*") if f.name.isdigit()), default=0)


def test_a_run_killed_at_three_random_moments_ends_as_if_it_never_was(
    uninterrupted, start, train, tmp_path
):
    """SIGKILL from outside, at moments that differ from one test run to the next."""
    moments = random.SystemRandom()
    for low, high in ((0, 3), (4, 6), (7, 9)):
        target, pause = moments.randint(low, high), moments.uniform(0, 0.08)
        (process,) = start(tmp_path, resume=True, wait=0.02)
        while _saves(tmp_path) < target and process.is_alive():
            time.sleep(0.002)
        time.sleep(pause)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    train(tmp_path, resume=True)
    _assert_equal_to_the_bit(uninterrupted, tmp_path)


def test_a_run_killed_in_the_middle_of_its_writes_ends_as_if_it_never_was(
    uninterrupted, start, train, tmp_path
):
    """Among the writes: a state's files, weights, histories; resumed each time, and killed again."""
    for write in (2, 14, 6, 9, 12):
        (process,) = start(tmp_path, resume=True, killed_at_write=write)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    train(tmp_path, resume=True)
    _assert_equal_to_the_bit(uninterrupted, tmp_path)


def test_worker_processes_change_nothing(uninterrupted, train, tmp_path):
    train(tmp_path, workers=2)
    _assert_equal_to_the_bit(uninterrupted, tmp_path)


def test_how_often_the_state_is_saved_changes_nothing(uninterrupted, train, tmp_path):
    train(tmp_path, save_steps=1000)
    for name in FILES:
        assert (uninterrupted / name).read_bytes() == (tmp_path / name).read_bytes()


def test_two_processes_killed_together_resume_to_the_bit(start, train, tmp_path):
    """With dropout, so each process has its own generator to put back."""
    changes = {"processes": 2, "batch_size": 1, "epochs": 3}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, **changes)
    processes = start(cut, resume=True, wait=0.02, **changes)
    while _saves(cut) < 4:
        time.sleep(0.002)
    for process in processes:
        process.kill()
        process.join()
    train(cut, resume=True, **changes)
    _assert_equal_to_the_bit(whole, cut)


def test_a_finished_run_is_not_trained_again(uninterrupted, train):
    before = {name: (uninterrupted / name).stat().st_mtime_ns for name in FILES[:2]}
    train(uninterrupted, resume=True)
    assert {name: (uninterrupted / name).stat().st_mtime_ns for name in FILES[:2]} == before
    assert json.loads((uninterrupted / "result.json").read_text())["stopped"] == "epochs"


def test_other_settings_are_refused_by_name(uninterrupted):
    changed = problem(uninterrupted, learning_rate=0.5, batch_size=3, time_limit=60.0)
    with pytest.raises(
        TrainingError, match=r"batch_size: 2 then, 3 now; train.learning_rate: 0.01 then"
    ):
        fit(**changed, resume=True)


def test_another_seed_and_other_data_are_refused_by_name(uninterrupted):
    changed = problem(uninterrupted, samples=9) | {"seed": 6}
    with pytest.raises(
        TrainingError, match=r"seed: 5 then, 6 now; training samples: 10 then, 9 now"
    ):
        fit(**changed, resume=True)


def test_a_folder_with_a_run_is_not_trained_into_unless_resumed(uninterrupted):
    with pytest.raises(
        TrainingError, match=r"must hold no earlier run, got .* with state, history.jsonl"
    ):
        fit(**problem(uninterrupted))


def test_a_history_that_lost_rows_is_refused(tmp_path):
    fit(**problem(tmp_path, epochs=1))
    (tmp_path / "history.jsonl").write_text("")
    with pytest.raises(TrainingError, match=r"must hold the 1 rows of the state, got 0"):
        fit(**problem(tmp_path, epochs=1), resume=True)


def test_a_run_stopped_by_time_goes_on_when_given_more(tmp_path):
    """It ends with the last weights of a run that had the time at once."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(**problem(whole))
    first = fit(**problem(cut, time_limit=1e-6))
    assert (first.stopped, first.steps, first.epochs) == ("time limit", 1, 0)
    rows = [json.loads(line) for line in (cut / "history.jsonl").read_text().splitlines()]
    assert rows[0]["epoch_share"] == pytest.approx(2 / 5)  # one step is two of five batches
    again = fit(**problem(cut, time_limit=1e-6), resume=True)
    assert (again.stopped, again.steps) == ("time limit", 1)
    assert fit(**problem(cut), resume=True).stopped == "epochs"
    assert (whole / "last.safetensors").read_bytes() == (cut / "last.safetensors").read_bytes()
