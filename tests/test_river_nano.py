"""The model that is installed with the package: whole, small, and as good as it was when it was shipped."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autosam import AutoSam
from autosam.cli import run
from autosam.errors import DataError, ModelError
from autosam.models.checkpoints import describe
from autosam.models.embedded import EMBEDDED_FOLDERS, RIVER_NANO, embedded_folder
from autosam.models.sam import load_sam
from autosam.overlap import mask_iou

FOLDER = EMBEDDED_FOLDERS[RIVER_NANO]
SCENES = Path(__file__).parent / "river_scenes"
SHIPPED = json.loads((SCENES / "shipped_iou.json").read_text())
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def model() -> AutoSam:
    return AutoSam.from_pretrained()


def test_every_file_is_the_one_that_was_shipped():
    listed = dict(
        reversed(line.split(maxsplit=1))
        for line in (FOLDER / "SHA256SUMS").read_text().splitlines()
    )
    present = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert present == {*listed, "SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_it_is_under_twenty_megabytes_and_half_precision():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 20e6
    head = (FOLDER / "model.safetensors").read_bytes()[:200_000].decode("latin1")
    assert '"F16"' in head
    assert '"F32"' not in head


def test_it_tells_no_path_of_the_machine_it_was_trained_on():
    for name in ("config.json", "README.md", "sam/config.json"):
        text = (FOLDER / name).read_text()
        assert "/root" not in text
        assert "/tmp" not in text
        assert "/work" not in text


@pytest.mark.parametrize("kind", sorted(SHIPPED))
def test_committed_scenes_score_as_they_did_when_it_was_shipped(model, kind):
    image = np.asarray(Image.open(SCENES / f"{kind}.png"))
    truth = np.asarray(Image.open(SCENES / f"{kind}_mask.png")) > 127
    prediction = model.predict(image)
    assert mask_iou(prediction.mask, truth) == pytest.approx(SHIPPED[kind], abs=TOLERANCE)


def test_it_is_the_autosam_method_behind_a_frozen_sam(model):
    assert model.config.method == "autosam"
    assert {type(part).__name__ for part in model.network.trained_parts().values()} == {
        "PromptNetwork"
    }
    assert not any(p.requires_grad for p in model.network.sam.parameters())


def test_it_says_what_it_knows_of_a_picture(model):
    image = np.asarray(Image.open(SCENES / "meander.png"))
    river = model.predict(image)
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    strange = model.predict(noise)
    assert 0 <= river.presence <= 1
    assert 0 <= river.expected_iou <= 1
    assert strange.domain_distance > river.domain_distance
    assert strange.expected_iou <= river.expected_iou


def test_it_says_nothing_of_a_picture_without_data(model):
    empty = np.full((256, 256, 4), (90, 120, 60, 0), np.uint8)
    river = model.predict(empty)
    assert not river.mask.any()
    assert (river.presence, river.expected_iou, river.domain_distance) == (None, None, None)


@pytest.mark.parametrize("source", [None, 5, ""])
def test_what_names_no_model_is_refused(source):
    with pytest.raises(ModelError, match="model must be 'river-nano', the folder of a run, owner/"):
        AutoSam.from_pretrained(source)


def test_views_are_asked_for_by_true_or_false(model):
    with pytest.raises(DataError, match="dihedral must be True or False, got 'no'"):
        model.predict(np.zeros((64, 64, 3), np.uint8), dihedral="no")


def test_names_lead_to_it_and_a_folder_of_that_name_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / RIVER_NANO).mkdir()
    assert embedded_folder(RIVER_NANO) == FOLDER
    assert embedded_folder(f"./{RIVER_NANO}") is None
    assert describe(RIVER_NANO)["sam"]["bundled"]
    assert load_sam(RIVER_NANO).fingerprint == describe(RIVER_NANO)["sam"]["fingerprint"]


def test_predict_needs_no_model_to_be_named(tmp_path, capsys):
    code = run(["predict", str(SCENES / "meander.png"), "-o", str(tmp_path / "masks"), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert code == 0
    assert row["status"] == "written"
    assert 0 <= row["presence"] <= 1
    assert row["expected_iou"] is not None


def test_info_shows_its_gauges(capsys):
    assert run(["info", RIVER_NANO]) == 0
    said = capsys.readouterr().out
    assert "expected_iou_by_distance" in said
    assert "autosam" in said


def test_the_demo_masks_scenes_with_it(tmp_path, capsys):
    assert run(["demo", "-o", str(tmp_path / "demo"), "--scenes", "2"]) == 0
    assert (tmp_path / "demo" / "rivers.png").is_file()
    assert len(list((tmp_path / "demo" / "masks").iterdir())) == 2
    assert "Mean IoU on 2 drawn scenes" in capsys.readouterr().out


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """Six labelled tiles of a river."""
    folder = tmp_path_factory.mktemp("tiles")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number, kind in enumerate([*sorted(SHIPPED), *sorted(SHIPPED)]):
        turned = Image.Transpose.ROTATE_90 if number >= len(SHIPPED) else Image.Transpose.ROTATE_180
        for part, suffix in (("images", ""), ("masks", "_mask")):
            picture = Image.open(SCENES / f"{kind}{suffix}.png").transpose(turned)
            picture.save(folder / part / f"tile{number}.png")
    return folder


SETTINGS = (
    "data.validation_share=0.34", "data.test_share=0.17", "train.epochs=1", "train.batch_size=2",
)  # fmt: skip


def test_fine_tuning_starts_from_its_weights_and_leaves_its_sam(tiles, tmp_path, model, capsys):
    (tmp_path / "rivers.yaml").write_text(f"data: {{source: ['{tiles}']}}\n")
    settings = [*SETTINGS, f"cache.directory={tmp_path / 'cache'}", "train.learning_rate=1e-7"]
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    folder = tmp_path / "run"
    code = run(
        [
            "train",
            str(tmp_path / "rivers.yaml"),
            "--from",
            RIVER_NANO,
            "-o",
            str(folder),
            *arguments,
        ]
    )
    assert code == 0, capsys.readouterr().err
    tuned = AutoSam.from_pretrained(folder)
    assert tuned.network.sam.fingerprint == model.network.sam.fingerprint
    before = dict(model.network.prompter.named_parameters())
    for name, parameter in tuned.network.prompter.named_parameters():
        torch.testing.assert_close(parameter, before[name], atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize(
    ("start", "settings", "message"),
    [
        ("no-such-run", [], "no-such-run"),
        (RIVER_NANO, ["method=unet"], "start must be a model of method 'unet'"),
        (RIVER_NANO, ["sam.name=nano"], "same SAM"),
        (RIVER_NANO, ["prompt.network=hardnet39ds"], "key for key"),
    ],
)
def test_a_start_that_does_not_fit_is_one_line(tiles, tmp_path, start, settings, message, capsys):
    (tmp_path / "rivers.yaml").write_text(f"data: {{source: ['{tiles}']}}\n")
    given = [*SETTINGS, f"cache.directory={tmp_path / 'cache'}", *settings]
    arguments = [argument for setting in given for argument in ("--set", setting)]
    folder = tmp_path / "run"
    code = run(
        ["train", str(tmp_path / "rivers.yaml"), "--from", start, "-o", str(folder), *arguments]
    )
    said = capsys.readouterr().err
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert not folder.exists()
