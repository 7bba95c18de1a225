"""A folder of masks: what is autosam's own goes on, what is not stays as it is."""

import os
import time

import numpy as np
import pytest
import torch
from PIL import Image
from raster_scenes import river

from autosam.config import config_from_dict
from autosam.errors import OutputError
from autosam.inference.masking import mask_files
from autosam.inference.segmenter import AutoSam
from autosam.prompts.coarse_rules import HsvRule, IndexRule

SIDE = 48


@pytest.fixture(scope="module")
def model(tiny_sam_folder):
    torch.manual_seed(0)
    settings = {
        "sam": {"name": str(tiny_sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
    }
    return AutoSam(config_from_dict(settings), device="cpu")


@pytest.fixture
def source(tmp_path):
    """Two pictures, taken long ago."""
    folder = tmp_path / "pics"
    folder.mkdir()
    for name in ("first", "second"):
        Image.fromarray(river(SIDE, SIDE)[0]).save(folder / f"{name}.png")
        os.utime(folder / f"{name}.png", (1e9, 1e9))
    return folder


def statuses(results):
    return [result.status for result in results]


FOREIGN = {
    "a mask by hand, newer and of equal size": "second.png",
    "a mask by hand, older than the picture": "second.png",
    "a picture of another size": "second.png",
    "no picture at all": "second.png",
    "a cut picture": "second.png",
    "a probability": "second.probability.png",
    "a preview": "second.preview.jpg",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_others_are_refused_before_anything_is_masked(model, source, tmp_path, kind):
    file = tmp_path / "own" / FOREIGN[kind]
    file.parent.mkdir()
    side = 100 if "another size" in kind else SIDE
    Image.effect_noise((side, side), 50).save(file)
    if kind == "no picture at all":
        file.write_text("my notes")
    if kind == "a cut picture":
        file.write_bytes(file.read_bytes()[:-40])
    if "older" in kind:
        os.utime(file, (1e8, 1e8))
    before = file.read_bytes()
    for made_by in (model, None):  # None is a dry run
        with pytest.raises(
            OutputError, match=rf"must be new or autosam's own.*{file.name}.*-o, or"
        ):
            mask_files(made_by, source, file.parent, probability=True, preview=True)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
    results = mask_files(model, source, file.parent, overwrite=True, probability=True, preview=True)
    assert statuses(results) == ["written", "written"]
    assert file.read_bytes() != before


def test_extras_of_others_are_left_alone_where_none_are_asked_for(model, source, tmp_path):
    (tmp_path / "own").mkdir()
    preview = tmp_path / "own" / "first.preview.jpg"
    preview.write_bytes(b"mine")
    assert statuses(mask_files(model, source, tmp_path / "own")) == ["written", "written"]
    assert preview.read_bytes() == b"mine"


def test_own_masks_and_extras_are_gone_on_with(model, source, tmp_path):
    def again(**asked):
        return statuses(
            mask_files(model, source, tmp_path / "out", probability=True, preview=True, **asked)
        )

    assert again() == ["written", "written"]
    assert again() == ["finished before", "finished before"]
    (tmp_path / "out" / "first.png").unlink()
    (tmp_path / "out" / "second.preview.jpg").write_bytes(b"")  # of a crash: nothing to lose
    os.utime(tmp_path / "out" / "second.png", (1e8, 1e8))
    assert again() == ["written", "written"]


@pytest.mark.parametrize("extra", ["probability", "preview"])
def test_an_extra_that_is_older_than_its_picture_is_made_again(model, source, tmp_path, extra):
    mask_files(model, source, tmp_path / "out", **{extra: True})
    (file,) = (tmp_path / "out").glob(f"first.{extra}.*")
    os.utime(file, (1e8, 1e8))
    results = mask_files(model, source, tmp_path / "out", **{extra: True})
    assert statuses(results) == ["written", "finished before"]


def test_a_probability_of_another_model_is_not_mixed_in(model, source, tmp_path):
    mask_files(model, source, tmp_path / "out", probability=True)
    for mask in ("first.png", "second.png"):
        (tmp_path / "out" / mask).unlink()
    other = AutoSam(model.config, device="cpu")
    with torch.no_grad():
        for weights in other.network.parameters():
            weights.add_(1 if weights.requires_grad else 0)
    assert other.identity != model.identity
    with pytest.raises(OutputError, match=r"of one model .*first\.probability\.png"):
        mask_files(other, source, tmp_path / "out", probability=True)
    assert statuses(mask_files(other, source, tmp_path / "out")) == ["written", "written"]


def test_finished_masks_of_any_size_are_known_again(model, source, tmp_path, monkeypatch):
    assert statuses(mask_files(model, source, tmp_path / "out")) == ["written", "written"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # as if the pictures were gigantic
    again = mask_files(model, source, tmp_path / "out")
    assert statuses(again) == ["finished before", "finished before"]


def test_the_confidence_of_a_file_is_that_of_its_mask(model, source, tmp_path):
    result = mask_files(model, source / "first.png", tmp_path / "out", probability=True)[0]
    water = np.asarray(Image.open(result.mask)) > 0
    probability = np.asarray(Image.open(tmp_path / "out" / "first.probability.png")) / 255
    expected = np.where(water, probability, 1 - probability).mean()
    assert result.confidence == pytest.approx(expected, abs=1 / 255)


def test_masks_of_eight_views_go_on_and_are_not_mixed_with_those_of_one(model, source, tmp_path):
    out = tmp_path / "masks"
    assert statuses(mask_files(model, source, out, dihedral=True)) == ["written"] * 2
    expected = model.predict(source / "first.png", dihedral=True).mask
    with Image.open(out / "first.png") as written:
        np.testing.assert_array_equal(np.asarray(written) > 127, expected)
    assert statuses(mask_files(model, source, out, dihedral=True)) == ["finished before"] * 2
    with pytest.raises(OutputError, match=r"of one model and its prompts.* in 8 views"):
        mask_files(model, source, out)


@pytest.fixture
def banded(tiny_sam_folder):
    """Masks follow the band alone."""
    settings = {"method": "zero-shot", "sam": {"name": str(tiny_sam_folder)}}
    model = AutoSam(config_from_dict(settings), device="cpu")
    return model.prompted_by(kind="mask", coarse=IndexRule(index="nir", threshold=100.0))


def write_bands(folder, value, *, taken):
    folder.mkdir(exist_ok=True)
    for name in ("first", "second"):
        Image.fromarray(np.full((SIDE, SIDE), value, np.uint8)).save(folder / f"{name}.png")
        os.utime(folder / f"{name}.png", (taken, taken))


def test_a_band_that_is_newer_than_a_mask_makes_it_anew(banded, source, tmp_path):
    write_bands(tmp_path / "nir", 10, taken=1e9)
    assert statuses(mask_files(banded, source, tmp_path / "out")) == ["written"] * 2
    assert statuses(mask_files(banded, source, tmp_path / "out")) == ["finished before"] * 2
    write_bands(tmp_path / "nir", 200, taken=time.time() + 60)
    assert statuses(mask_files(banded, source, tmp_path / "out")) == ["written"] * 2


def test_masks_of_bands_from_elsewhere_are_not_taken_for_finished(banded, source, tmp_path):
    write_bands(tmp_path / "nir", 10, taken=1e9)
    write_bands(tmp_path / "inverted", 200, taken=1e9)
    mask_files(banded, source, tmp_path / "out")
    folders = {"nir": tmp_path / "inverted"}
    with pytest.raises(OutputError, match=r"of one model and its prompts.*nir from inverted"):
        mask_files(banded, source, tmp_path / "out", band_folders=folders)
    mask_files(banded, source, tmp_path / "other", band_folders=folders)
    again = mask_files(banded, source, tmp_path / "other", band_folders=folders)
    assert statuses(again) == ["finished before"] * 2


def dark(sample):
    return sample.image.mean(axis=2) < 100


def light(sample):
    return sample.image.mean(axis=2) > 100


def test_models_behind_other_coarse_masks_have_other_identities(banded):
    def behind(coarse):
        return banded.prompted_by(coarse=coarse).identity

    low, high = HsvRule(low=(0, 0, 0), high=(1, 1, 0.4)), HsvRule(low=(0, 0, 0.6), high=(1, 1, 1))
    rules = [low, high, IndexRule(), IndexRule(threshold=0.1), dark, light, lambda s: s.mask]
    assert len({behind(rule) for rule in rules}) == len(rules)
    assert behind(dark) == behind(dark)
    assert behind(low) == behind(HsvRule(low=(0, 0, 0), high=(1, 1, 0.4)))
    nothing_coarse = banded.prompted_by(kind="null")  # whose masks do not depend on it
    assert nothing_coarse.identity == nothing_coarse.prompted_by(coarse=low).identity


def test_a_model_reads_the_bands_of_the_rule_behind_it(banded, source, tmp_path):
    assert banded.bands == ("nir",)
    assert banded.prompted_by(coarse=dark).bands == ()
    write_bands(tmp_path / "nir", 10, taken=1e9)
    folder = banded.save_pretrained(tmp_path / "saved")
    loaded = AutoSam.from_pretrained(folder, device="cpu")
    assert loaded.bands == ("nir",)
    assert loaded.identity == banded.identity
    picture = source / "first.png"
    assert (loaded.predict(picture).mask == banded.predict(picture).mask).all()
