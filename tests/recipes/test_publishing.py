"""By the door and through a hub on this machine: what is pushed is fetched, and mistakes push nothing."""

import json

import datasets
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load, load_file

from autosam import AutoSam
from autosam.cli import run
from autosam.config import load_config
from autosam.data.elwha import load_elwha
from autosam.data.folders import FolderDataset
from autosam.data.manifests import Split, write_split
from autosam.recipes.publishing import push

NAME = "datasets/me/rivers"
TRAIN = "data/train-00000-of-00001.parquet"


@pytest.fixture
def hub(hub, monkeypatch, tmp_path):
    """The loopback hub as the only one that this process knows, with nobody logged in."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    datasets.disable_progress_bars()
    return hub


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, tiny_yaml):
    model = AutoSam(load_config(tiny_yaml), device="cpu")
    return model.save_pretrained(tmp_path_factory.mktemp("model") / "model")


def pushed(*arguments, licence="cc-by-4.0", token="hf_test"):
    """The exit code of the command."""
    licensed = [] if licence is None else ["--licence", licence]
    logged_in = [] if token is None else ["--token", token]
    return run(["push", *(str(one) for one in arguments), *licensed, *logged_in])


@pytest.mark.parametrize("private", [False, True])
def test_a_dataset_goes_round_through_a_hub(hub, rivers, private, capsys):
    options = ["--private"] if private else []
    assert pushed(rivers, "me/rivers", *options, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["address"]
        == f"{hub.endpoint}/datasets/me/rivers/commit/0123456789abcdef0123456789abcdef01234567"
    )
    assert told["parts"]["train"]["pictures"] == 6
    assert set(hub.files) == {NAME}
    assert set(hub.files[NAME]) == {TRAIN, "README.md"}
    assert (NAME in hub.private) == private
    fetched = load_elwha("me/rivers", split="train", token="hf_test")
    for found, original in zip(fetched, FolderDataset(rivers), strict=True):
        assert found.name == original.name
        np.testing.assert_array_equal(found.image, original.image)
        np.testing.assert_array_equal(found.mask, original.mask)


def test_a_second_push_replaces_the_data_and_keeps_what_others_wrote(hub, rivers, tmp_path, capsys):
    hub.files[NAME] = {
        "README.md": b"---\nlicense: apache-2.0\n---\nby hand",
        "data/train-00000-of-00002.parquet": b"old",
        "data/train-00001-of-00002.parquet": b"old",
        "data/notes.txt": b"mine",
    }
    names = FolderDataset(rivers).names
    manifest = tmp_path / "split.json"
    write_split(manifest, Split(kind="grouped", train=names[:4], validation=names[4:], test=()))
    assert pushed(rivers, "me/rivers", "--split", manifest) == 0
    assert set(hub.files[NAME]) == {
        "README.md", "data/notes.txt", TRAIN, "data/validation-00000-of-00001.parquet",
    }  # fmt: skip
    assert hub.files[NAME]["README.md"].endswith(b"by hand")
    told = capsys.readouterr().out
    assert "(4 train, 2 validation)" in told
    assert "card was there and is kept" in told


@pytest.mark.parametrize("bundle", [False, True])
def test_a_checkpoint_is_pushed_as_it_is_or_with_its_sam(hub, checkpoint, tiny_sam_folder, bundle):
    options = ["--bundle"] if bundle else []
    assert pushed(checkpoint, "me/model", *options, licence=None) == 0
    files = hub.files["me/model"]
    own = {path.name for path in checkpoint.iterdir()}
    assert set(files) == own | ({"sam/config.json", "sam/model.safetensors"} if bundle else set())
    assert files["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    assert json.loads(files["config.json"])["sam"]["bundled"] == bundle
    if bundle:
        sent, own = (
            load(files["sam/model.safetensors"]),
            load_file(tiny_sam_folder / "model.safetensors"),
        )
        assert all((sent[key] == own[key]).all() for key in sent)


def test_bands_are_named_as_not_published(hub, rivers, tmp_path):
    source = tmp_path / "rivers"
    for name in ("images", "masks", "nir"):
        (source / name).mkdir(parents=True)
        for path in (rivers / ("images" if name == "nir" else name)).iterdir():
            (source / name / path.name).write_bytes(path.read_bytes())
    result = push(source, "me/rivers", licence="cc-by-4.0", token="hf_test")
    assert result.left_out == ("nir",)
    assert "Not published: nir/" in result.sentence()


def test_a_private_push_never_lands_in_a_public_repository(hub, rivers, checkpoint, capsys):
    hub.files[NAME], hub.files["me/model"] = {}, {}
    assert pushed(rivers, "me/rivers", "--private") == 2
    assert "must be private to take a private push, got a public one" in capsys.readouterr().err
    assert pushed(checkpoint, "me/model", "--private", licence=None) == 2
    assert hub.files == {NAME: {}, "me/model": {}}


def test_without_a_login_nothing_is_asked_of_the_hub(hub, rivers, checkpoint, capsys):
    for source, licence in ((rivers, "cc-by-4.0"), (checkpoint, None)):
        assert pushed(source, "me/rivers", "--private", licence=licence, token=None) == 2
        assert "must be logged in, got no token (me/rivers). Log in with" in capsys.readouterr().err
    assert hub.requests == []


def test_a_wrong_token_is_refused_in_one_line(hub, rivers, capsys):
    assert pushed(rivers, "me/rivers", token="hf_wrong") == 2
    told = capsys.readouterr().err
    assert "the hub refused 'me/rivers' with 401. Log in with" in told
    assert "hf_wrong" not in told


def test_offline_nothing_is_tried(hub, rivers, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pushed(rivers, "me/rivers") == 2
    assert "must reach the hub, got HF_HUB_OFFLINE set (me/rivers)" in capsys.readouterr().err


def test_a_licence_that_the_hub_does_not_know_is_said(hub, rivers, capsys):
    assert pushed(rivers, "me/rivers", licence="my-own-1.0") == 2
    assert '"license" must be one of ... (me/rivers). Change the name or the licence.' in (
        capsys.readouterr().err
    )
    assert hub.files == {NAME: {}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{rivers}", "rivers"], "must be owner/name, got 'rivers'"),
        (["{empty}", "me/rivers"], "got {empty} with nothing. A run that was cut off"),
        (["{empty}/gone", "me/rivers"], "must be an existing folder, got {empty}/gone"),
        (["{rivers}", "me/rivers"], "must be the hub's word for the pictures' licence, got 'none'"),
        (["{rivers}", "me/rivers", "--licence", "CC BY"], "licence, got 'CC BY'. Give for example"),
        (["{rivers}", "me/rivers", "--bundle"], "--bundle must be for a model"),
        (["{model}", "me/model", "--licence", "mit"], "--licence must be for a dataset, got 'mit'"),
        (["{model}", "me/model", "--split", "s.json"], "--split must be for a dataset, got 's.json'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_pushes_nothing(
    hub, rivers, checkpoint, tmp_path, arguments, message, capsys
):
    (tmp_path / "empty").mkdir()
    names = {"rivers": rivers, "model": checkpoint, "empty": tmp_path / "empty"}
    before = {path: path.read_bytes() for path in rivers.rglob("*") if path.is_file()}
    filled = [one.format(**names) for one in arguments]
    assert pushed(*filled, licence=None) == 2
    told = capsys.readouterr().err
    assert message.format(**names) in told
    assert told.count("\n") == 1
    assert hub.requests == []
    assert before == {path: path.read_bytes() for path in rivers.rglob("*") if path.is_file()}
