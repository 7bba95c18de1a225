import random

import numpy as np
import pytest
import torch

from autosam.errors import OutputError, TrainingError
from autosam.training.randomness import (
    Address,
    geometry_generator,
    jitter_generator,
    keeping_library_states,
    library_states,
    restore_library_states,
    seed_libraries,
)
from autosam.training.state import SavedState, Standing, StateFolder, check_identity

CPU = torch.device("cpu")


def _state(number=1):
    generator = torch.Generator().manual_seed(number)
    return SavedState(
        tensors={
            "weights.a": torch.randn(3, 4, generator=generator).t(),
            "weights.half": torch.randn(5, generator=generator).bfloat16(),
            "count": torch.tensor(number),
        },
        standing=Standing(step=number, best_score=0.1 + 0.2, stopped=""),
        identity={"seed": 5},
        plain={"random": [[1, 2.5, None]]},
    )


def test_a_state_comes_back_to_the_bit(tmp_path):
    folder, state = StateFolder(tmp_path / "state"), _state()
    folder.save(state)
    loaded = folder.load()
    assert (loaded.standing, loaded.identity, loaded.plain) == (
        state.standing, state.identity, state.plain,
    )  # fmt: skip
    assert all(torch.equal(loaded.tensors[k], v) for k, v in state.tensors.items())
    assert loaded.tensors["weights.half"].dtype == torch.bfloat16


def test_the_newest_state_is_the_only_one_left(tmp_path):
    folder = StateFolder(tmp_path / "state")
    for number in range(1, 13):
        folder.save(_state(number))
    assert folder.load().standing.step == 12
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["00000012"]


def test_no_state_is_none(tmp_path):
    assert StateFolder(tmp_path / "state").load() is None


def test_what_a_killed_save_left_is_never_read_and_goes_with_the_next(tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.save(_state(1))
    unfinished = tmp_path / "state" / "00000002.unfinished"
    unfinished.mkdir()
    (unfinished / "state.json").write_text("{")
    assert folder.load().standing.step == 1
    folder.save(_state(2))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["00000002"]


def test_a_state_half_removed_does_not_hide_the_newer_one(tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.save(_state(1))
    older = tmp_path / "state" / "00000000"
    older.mkdir()
    assert folder.load().standing.step == 1


def test_a_damaged_state_falls_back_to_the_one_before(tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.save(_state(1))
    newer = tmp_path / "state" / "00000002"
    newer.mkdir()
    (newer / "state.json").write_text("")
    assert folder.load().standing.step == 1


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_only_damaged_states_are_an_error(tmp_path, name):
    folder = StateFolder(tmp_path / "state")
    folder.save(_state(1))
    path = tmp_path / "state" / "00000001" / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TrainingError, match=r"must be readable, got damage in .*00000001"):
        folder.load()


def test_a_state_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    folder = StateFolder(tmp_path / "state")
    folder.save(_state(1))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"No space left.*Free some space"):
        folder.save(_state(2))
    assert folder.load().standing.step == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["00000001"]


def test_all_differences_are_named():
    with pytest.raises(TrainingError, match=r"a: 1 then, 2 now; b: None then, 3 now"):
        check_identity({"a": 1, "c": 0}, {"a": 2, "b": 3, "c": 0})
    check_identity({"a": 1}, {"a": 1})


def test_all_generators_go_on_where_they_were():
    seed_libraries(3, 0)
    random.gauss(0, 1), np.random.randn()  # both keep a second number in store
    tensors, plain = library_states(CPU)
    expected = torch.rand(3).tolist(), np.random.randn(), random.gauss(0, 1), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    restore_library_states(tensors, plain, CPU)
    assert (
        torch.rand(3).tolist(),
        np.random.randn(),
        random.gauss(0, 1),
        random.random(),
    ) == expected


def test_states_survive_json():
    import json

    tensors, plain = library_states(CPU)
    expected = np.random.rand(), random.random()
    restore_library_states(tensors, json.loads(json.dumps(plain)), CPU)
    assert (np.random.rand(), random.random()) == expected


def test_generators_are_put_back_after_an_error_too():
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    with pytest.raises(KeyError), keeping_library_states(CPU):
        {}[torch.rand(7).sum().item()]
    assert torch.equal(torch.rand(1), expected)


def test_each_process_draws_its_own_numbers():
    drawn = []
    for process in range(2):
        seed_libraries(3, process)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert all(a != b for a, b in zip(*drawn, strict=True))


def test_each_picture_and_epoch_has_its_own_chance():
    addresses = [Address(epoch, sample) for epoch in range(10) for sample in range(10)]
    crops = {float(geometry_generator(1, address).random()) for address in addresses}
    colours = {torch.rand(1, generator=jitter_generator(1, a)).item() for a in addresses}
    assert len(crops) == len(colours) == 100
    assert float(geometry_generator(1, addresses[5]).random()) in crops
    assert float(geometry_generator(2, addresses[5]).random()) not in crops
