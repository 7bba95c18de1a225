"""What is saved is what is loaded, on the SAM it belongs to, here and through a hub."""

import json
import shutil

import numpy as np
import pytest
import torch
from loopback_hub import through_hub
from safetensors import safe_open

from autosam.config import config_from_dict
from autosam.errors import (
    AccessError,
    CheckpointError,
    ConfigError,
    FingerprintError,
    MissingPathError,
)
from autosam.inference.segmenter import AutoSam
from autosam.models.checkpoints import Decision, load_checkpoint, push_checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture
def config(tiny_sam_folder):
    return config_from_dict(
        {"sam": {"name": str(tiny_sam_folder)}, "prompt": {"network": "hardnet39ds", "side": 32}}
    )


@pytest.fixture
def model(config):
    decision = Decision(temperature=1.5, threshold=0.4)
    facts = {"scores": {"validation": {"images": 3, "iou_mean": 0.5, "iou_median": 0.625}}}
    return AutoSam(config, decision=decision, facts=facts, device="cpu")


@pytest.fixture
def folder(model, tmp_path):
    return model.save_pretrained(tmp_path / "model")


def probability(model):
    return model.predict(IMAGE).probability


def test_a_loaded_model_gives_the_same_mask_to_the_bit(model, folder):
    loaded = AutoSam.from_pretrained(folder, device="cpu")
    assert np.array_equal(probability(loaded), probability(model))
    assert loaded.decision == model.decision
    assert loaded.config == model.config


def test_a_checkpoint_holds_what_was_trained_and_nothing_else(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {key.split(".")[0] for key in weights.keys()} == {"prompter"}  # noqa: SIM118


def test_the_card_tells_the_numbers_of_the_run(folder):
    card = (folder / "README.md").read_text()
    assert "| validation | learnt | 3 | 0.500 | 0.625 |" in card
    assert "probability of 0.400" in card


def test_a_bundled_checkpoint_needs_no_other_file(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "bundle", bundle=True)
    config = json.loads((folder / "config.json").read_text())
    config["config"]["sam"]["name"] = "/nowhere"
    (folder / "config.json").write_text(json.dumps(config))
    assert np.array_equal(probability(AutoSam.from_pretrained(folder)), probability(model))


def another_sam(source, target):
    shutil.copytree(source, target)
    from safetensors.torch import load_file, save_file

    state = load_file(target / "model.safetensors")
    state["mask_decoder.iou_token.weight"] += 1
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_another_sam_is_an_error_that_names_both(folder, tiny_sam_folder, tmp_path):
    other = another_sam(tiny_sam_folder, tmp_path / "other-sam")
    with pytest.raises(FingerprintError, match=r"tiny-sam.*other-sam"):
        AutoSam.from_pretrained(folder, sam=str(other))


def test_the_same_sam_in_another_place_is_accepted(folder, model, tiny_sam_folder, tmp_path):
    copy = shutil.copytree(tiny_sam_folder, tmp_path / "copy")
    loaded = AutoSam.from_pretrained(folder, sam=str(copy))
    assert np.array_equal(probability(loaded), probability(model))


def test_the_encoder_can_be_left_out_of_memory(folder):
    assert load_checkpoint(folder, encoder=False).network.sam.image_encoder is None


def damaged(folder, name, change):
    path = folder / name
    content = change(path.read_bytes())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def edited(**changes):
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("config.json", lambda _: None, MissingPathError, "must hold config.json"),
        ("config.json", lambda c: c[:50], ValueError, "must be JSON"),
        (
            "config.json",
            lambda _: b'{"model_type": "sam"}',
            CheckpointError,
            "not written by autosam",
        ),
        ("config.json", edited(format_version=9), CheckpointError, "must have format 1, got 9"),
        ("config.json", edited(config={"trian": {}}), CheckpointError, "trian is not a setting"),
        ("config.json", edited(decision={"treshold": 1}), CheckpointError, "must be readable"),
        ("model.safetensors", lambda _: None, MissingPathError, "weights must"),
        (
            "model.safetensors",
            lambda c: c[: len(c) // 2],
            CheckpointError,
            "whole safetensors file",
        ),
        ("model.safetensors", lambda _: b"", CheckpointError, "whole safetensors file"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_error(folder, name, change, error, message):
    damaged(folder, name, change)
    with pytest.raises(error, match=message):
        load_checkpoint(folder)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(MissingPathError, match="an ONNX file or a hub id owner/name, got 'a/b/c'"):
        load_checkpoint("a/b/c")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="must be the folder of a run or an ONNX file, got"):
        load_checkpoint(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingPathError, match=r"empty with nothing.*--resume"):
        load_checkpoint(tmp_path / "empty")


def test_an_offline_hub_is_said_to_be_offline():
    with pytest.raises(AccessError, match="unset HF_HUB_OFFLINE"):
        load_checkpoint("someone/rivers")


def test_a_repository_must_have_an_owner(folder):
    with pytest.raises(ConfigError, match="must be owner/name, got 'rivers'"):
        push_checkpoint(folder, "rivers")


def test_models_go_round_through_a_hub_and_a_private_one_asks_for_a_token(
    hub, folder, model, tmp_path
):
    code = (
        "import numpy as np\nfrom autosam import AutoSam\nfrom autosam.errors import AccessError\n"
        f"model = AutoSam.from_pretrained({str(folder)!r})\n"
        "said = [model.push_to_hub('me/rivers', token='hf_test', private=False),\n"
        "        model.push_to_hub('me/hidden', token='hf_test', private=True)]\n"
        "image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)\n"
        "for token in (None, 'hf_test'):\n"  # without it first: what is fetched is kept
        "    for name in ('me/rivers', 'me/hidden'):\n"
        "        try:\n"
        "            model = AutoSam.from_pretrained(name, token=token)\n"
        "            said.append(model.predict(image).probability.tobytes().hex())\n"
        "        except AccessError as error:\n"
        "            said.append(f'refused: {error}')\n"
        "print(*said, sep='|')"
    )
    said = through_hub(hub, code, tmp_path / "cache").split("|")
    for name, commit in zip(("me/rivers", "me/hidden"), said[:2], strict=True):
        assert f"/{name}/commit/" in commit
        assert set(hub.files[name]) == {path.name for path in folder.iterdir()}
    expected = probability(model).tobytes().hex()
    public, refused, *with_token = said[2:]
    assert public == expected
    assert refused.startswith("refused:")
    assert "hf auth login" in refused
    assert with_token == [expected, expected]


def test_the_stored_token_of_the_environment_is_used(hub, folder, tmp_path):
    hub.files["me/hidden"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.private.add("me/hidden")
    code = "from autosam import AutoSam; print(AutoSam.from_pretrained('me/hidden').config.method)"
    assert through_hub(hub, code, tmp_path / "cache", HF_TOKEN="hf_test") == "autosam"


def test_weights_are_the_same_tensors(folder, model):
    state = load_checkpoint(folder).network.trained_state()
    assert all(
        torch.equal(state[key], value) for key, value in model.network.trained_state().items()
    )
