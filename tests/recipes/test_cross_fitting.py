"""Each sample is masked by a model that has not seen it, and nothing is done twice."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosam.config import Config
from autosam.data.folders import FolderDataset
from autosam.data.manifests import read_split
from autosam.data.sources import open_data
from autosam.errors import (
    ConfigError,
    DataError,
    MissingPathError,
    OutputError,
    SplitError,
    TrainingError,
)
from autosam.inference.segmenter import AutoSam
from autosam.recipes.cross_fit_folder import check_unseen, open_cross_fit
from autosam.recipes.cross_fitting import cross_fit


def changed(config: Config, section: str, **values) -> Config:
    inner = dataclasses.replace(getattr(config, section), **values)
    return dataclasses.replace(config, **{section: inner})


@pytest.fixture(scope="module")
def fitted(config, tmp_path_factory):
    """A finished cross-fitting of two folds, and what was said meanwhile."""
    said: list[str] = []
    folder = tmp_path_factory.mktemp("fitted") / "fits"
    return cross_fit(config, folder, folds=2, say=said.append), said


@pytest.fixture
def copied(fitted, tmp_path):
    return Path(shutil.copytree(fitted[0].directory, tmp_path / "fits"))


def maps(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "probabilities").iterdir()}


def test_no_sample_is_masked_by_a_model_that_trained_on_it_or_was_chosen_by_it(fitted, rivers):
    fits, _ = fitted
    held = [name for split in fits.splits for name in split.test]
    assert sorted(held) == sorted(FolderDataset(rivers).names)
    for number, split in enumerate(fits.splits, start=1):
        run = json.loads((fits.directory / f"fold_{number}" / "run" / "split.json").read_text())
        assert run["train"]
        assert run["validation"]
        assert not {*run["train"], *run["validation"]} & {*split.test}


def test_a_map_is_what_the_folds_own_model_says(fitted, rivers):
    fits, _ = fitted
    samples = {sample.name: sample for sample in FolderDataset(rivers)}
    for number, split in enumerate(fits.splits, start=1):
        sample = samples[split.test[-1]]
        run = fits.directory / f"fold_{number}" / "run"
        prediction = AutoSam.from_pretrained(run).predict_image(sample.image)
        # The cached embedding is float16, and a byte keeps steps of 1/255.
        np.testing.assert_allclose(fits.probability(sample.name), prediction.probability, atol=0.02)
        assert fits.threshold(sample.name) == prediction.threshold


def test_a_model_that_has_seen_a_sample_is_refused(fitted, copied):
    split = fitted[0].splits[0]
    run = copied / "fold_1" / "run"
    check_unseen(run, split.test)
    for part in ("train", "validation"):
        with pytest.raises(
            SplitError, match=f"1 samples that it trained on.*{split.part(part)[0]}"
        ):
            check_unseen(run, [*split.test, split.part(part)[0]])


def test_folds_that_were_exchanged_by_hand_are_refused(fitted, copied):
    for name in ("run", "finished.json"):
        (copied / "fold_1" / name).rename(copied / name)
        (copied / "fold_2" / name).rename(copied / "fold_1" / name)
        (copied / name).rename(copied / "fold_2" / name)
    with pytest.raises(SplitError, match="must not have seen what it masks"):
        open_cross_fit(copied, fitted[0].samples)


def test_each_picture_is_encoded_once_for_all_folds(fitted):
    said = [line for line in fitted[1] if line.startswith("Encoding")]
    assert len(said) == 1
    assert said[0].startswith("Encoding 6 of 6 views")


def test_each_fold_is_told_of(fitted):
    said = [line for line in fitted[1] if line.startswith("Fold")]
    assert [line[:7] for line in said] == ["Fold 1:", "Fold 2:"]
    assert all("3 held out" in line for line in said)


def test_a_finished_cross_fitting_is_not_done_again(fitted, copied, config):
    weights = [path.stat().st_mtime_ns for path in sorted(copied.rglob("*.safetensors"))]
    said: list[str] = []
    again = cross_fit(config, copied, folds=2, say=said.append)
    assert said == []
    assert weights == [path.stat().st_mtime_ns for path in sorted(copied.rglob("*.safetensors"))]
    assert again.thresholds == fitted[0].thresholds


def test_a_cross_fitting_killed_between_folds_keeps_the_finished_one(config, tmp_path):
    quick = dataclasses.replace(config, method="threshold")
    expected = maps(cross_fit(quick, tmp_path / "uninterrupted", folds=2).directory)

    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if line.startswith("Fold 1"):
            raise Killed

    with pytest.raises(Killed):
        cross_fit(quick, tmp_path / "fits", folds=2, say=kill)
    assert not (tmp_path / "fits" / "fold_2" / "run").exists()
    said: list[str] = []
    cross_fit(quick, tmp_path / "fits", folds=2, say=said.append)
    assert [line[:6] for line in said] == ["Fold 2"]
    assert maps(tmp_path / "fits") == expected


def test_a_fold_killed_while_it_trained_resumes_to_the_same_maps(fitted, copied, config):
    expected = maps(copied)
    fold = copied / "fold_2"
    for path in (fold / "finished.json", fold / "run" / "config.json"):
        path.unlink()
    for name in fitted[0].splits[1].test:
        (copied / "probabilities" / f"{name}.png").write_bytes(b"cut off")
    cross_fit(config, copied, folds=2)
    assert maps(copied) == expected


def test_a_fold_killed_before_its_first_state_starts_again(fitted, copied, config):
    expected = maps(copied)
    (copied / "fold_2" / "finished.json").unlink()
    run = copied / "fold_2" / "run"
    shutil.rmtree(run)
    run.mkdir()
    (run / "environment.json").write_text("{}")
    cross_fit(config, copied, folds=2)
    assert maps(copied) == expected


def test_an_unfinished_cross_fitting_is_not_opened(copied, fitted):
    (copied / "fold_2" / "finished.json").unlink()
    with pytest.raises(MissingPathError, match="must be finished, got fold_2"):
        open_cross_fit(copied, fitted[0].samples)


@pytest.mark.parametrize(
    ("section", "values"),
    [("train", {"epochs": 3}), ("prompt", {"side": 64})],
)
def test_another_configuration_does_not_go_on(copied, config, section, values):
    with pytest.raises(TrainingError, match=f"its own configuration, got another '{section}'"):
        cross_fit(changed(config, section, **values), copied, folds=2)


def test_other_folds_or_labels_do_not_go_on(copied, config, rivers, tmp_path):
    with pytest.raises(TrainingError, match="2 folds then, 3 now"):
        cross_fit(config, copied, folds=3)
    other = Path(shutil.copytree(rivers, tmp_path / "rivers"))
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(other / "masks" / "river_1.png")
    moved = changed(config, "data", source=(str(other),))
    (copied / "config.yaml").write_text(
        (copied / "config.yaml").read_text().replace(str(rivers), str(other))
    )
    with pytest.raises(TrainingError, match="its own samples, labels and folds"):
        cross_fit(moved, copied, folds=2)


def test_a_sample_without_a_mask_is_refused_and_nothing_is_left(config, rivers, tmp_path):
    other = Path(shutil.copytree(rivers, tmp_path / "rivers"))
    shutil.rmtree(other / "masks")
    with pytest.raises(DataError, match=r"must have a mask to learn from.*'river_0'"):
        cross_fit(changed(config, "data", source=(str(other),)), tmp_path / "a" / "fits")
    assert not (tmp_path / "a").exists()


def test_a_mistake_found_before_training_leaves_nothing(config, tmp_path):
    wrong = changed(config, "prompt", network="hardnet86")
    with pytest.raises(Exception, match="Did you mean 'hardnet85'"):
        cross_fit(wrong, tmp_path / "a" / "b" / "fits", folds=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_refused(config, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="new or empty folder"):
        cross_fit(config, tmp_path, folds=2)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_prompts_made_from_the_labels_are_refused(config, tmp_path):
    oracle = dataclasses.replace(changed(config, "geometric", source="oracle"), method="decoder")
    with pytest.raises(ConfigError, match="got 'oracle', which prompts from them"):
        cross_fit(oracle, tmp_path / "fits")


def test_a_coarse_run_that_has_seen_the_samples_is_refused(fitted, config, tmp_path):
    run = fitted[0].directory / "fold_1" / "run"
    prompted = dataclasses.replace(changed(config, "coarse", source=str(run)), method="decoder")
    with pytest.raises(ConfigError, match="a run that has seen none of these samples"):
        cross_fit(prompted, tmp_path / "fits")
    assert read_split(run / "split.json").train


def test_samples_of_one_group_are_held_out_together(config, rivers, tmp_path):
    for path in rivers.glob("*/*.png"):
        target = (
            tmp_path / "sites" / path.parent.name / f"{'abc'[int(path.stem[-1]) // 2]}_{path.name}"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    data = {"source": (str(tmp_path / "sites"),), "group_by": "^[abc]"}
    quick = dataclasses.replace(changed(config, "data", **data), method="threshold")
    fits = cross_fit(quick, tmp_path / "fits", folds=3)
    held = sorted("".join(sorted(name[0] for name in split.test)) for split in fits.splits)
    assert held == ["aa", "bb", "cc"]


def test_the_planted_noise_of_the_settings_is_left_out(config, tmp_path):
    quick = dataclasses.replace(changed(config, "data", label_noise=0.9), method="threshold")
    fits = cross_fit(quick, tmp_path / "fits", folds=2)
    clean = dataclasses.replace(config, method="threshold")
    same = cross_fit(clean, tmp_path / "same", folds=2)
    assert fits.thresholds == same.thresholds
    assert maps(fits.directory) == maps(same.directory)
    assert len(open_data(quick.data).samples) == 6
