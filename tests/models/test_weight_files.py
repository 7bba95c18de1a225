"""Weight files are read without unpickling, and refused by name when they are not what they seem."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autosam.errors import CheckpointError, MissingPathError
from autosam.models.weight_files import load_strictly, read_weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, -2.0])}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pytorch_files_are_unwrapped(tmp_path, wrapped, prefix):
    state = {prefix + key: value for key, value in STATE.items()}
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, path)
    loaded = read_weights(path)
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[key], STATE[key]) for key in STATE)


def test_safetensors_are_read(tmp_path):
    save_file(STATE, tmp_path / "weights.safetensors")
    loaded = read_weights(tmp_path / "weights.safetensors")
    assert all(torch.equal(loaded[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"weights{suffix}"
    torch.save(STATE, path) if suffix == ".pth" else save_file(STATE, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"weights must be a whole .*, got .*weights\."):
        read_weights(path)


def test_a_pickled_module_is_refused_without_unpickling_it(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"of tensors alone, got .*model\.pth"):
        read_weights(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], "must map names to tensors, got list"),
        ({}, "must map names to tensors, got dict"),
        ({"epoch": 3, "a": torch.ones(1)}, r"got other values under \['epoch'\]"),
    ],
)
def test_other_contents_are_refused(tmp_path, value, words):
    torch.save(value, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=words):
        read_weights(tmp_path / "weights.pth")


def test_other_suffixes_and_absent_files_are_refused(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors.*got .*weights\.h5"):
        read_weights(tmp_path / "weights.h5")
    with pytest.raises(MissingPathError, match="weights must be a file"):
        read_weights(tmp_path)


def test_the_classifier_alone_may_be_missing():
    model = nn.ModuleDict({"a": nn.Linear(3, 2), "head": nn.Linear(2, 1)})
    before = model["head"].weight.clone()
    complete = model.state_dict().keys()
    load_strictly(model, STATE, complete=complete, classifier="head", source="here")
    assert torch.equal(model["a"].weight, STATE["a.weight"])
    assert torch.equal(model["head"].weight, before)
    with pytest.raises(
        CheckpointError, match=r"2 missing \['head\.weight', 'head\.bias'\].*\(here\)"
    ):
        load_strictly(model, STATE, complete=complete, classifier="hea", source="here")


def test_shapes_are_named_on_both_sides():
    model = nn.ModuleDict({"a": nn.Linear(4, 2)})
    with pytest.raises(CheckpointError, match=r"a\.weight \(2, 3\) for \(2, 4\)"):
        load_strictly(model, STATE, complete=STATE.keys(), classifier="head", source="here")


def test_a_tensor_that_no_stage_of_the_network_has_is_refused():
    model = nn.ModuleDict({"a": nn.Linear(3, 2)})
    before = model["a"].weight.clone()
    state = {**STATE, "deeper.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"0 missing \[\], 1 left over \['deeper\.weight'\]"):
        load_strictly(model, state, complete=STATE.keys(), classifier="head", source="here")
    assert torch.equal(model["a"].weight, before)
    load_strictly(model, state, complete=state.keys(), classifier="head", source="here")
    assert torch.equal(model["a"].weight, STATE["a.weight"])
