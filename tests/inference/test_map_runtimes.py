"""Rasters masked by another program than torch: it is named, and never finishes another's work in silence."""

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from raster_scenes import river, write_raster

from autosam.cli import run
from autosam.config import config_from_dict
from autosam.data.synthetic import make_scene
from autosam.errors import ConfigError, ModelError, OutputError
from autosam.inference import runtimes
from autosam.inference.runtimes import runtime_of, set_runtime
from autosam.inference.segmenter import AutoSam
from autosam.inference.strip_workers import ModelSource
from autosam.inference.tile_models import AutoSamTiles
from autosam.inference.tiles import mask_raster
from autosam.maps.journal import unfinished
from autosam.maps.settings import MapSettings
from autosam.models.checkpoints import Decision
from autosam.recipes.mapping import map_rasters

SETTINGS = MapSettings(probability="float32")

pytestmark = pytest.mark.usefixtures("openvino_in_float32")


@pytest.fixture(autouse=True)
def _kept_in_a_cache_of_its_own(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(runtimes, "SCENE_SIDE", 64)


@pytest.fixture(scope="module")
def folder(tiny_sam_folder, tmp_path_factory):
    """A run whose threshold lies amid its probabilities."""
    settings = {
        "sam": {"name": str(tiny_sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
    }
    torch.manual_seed(0)
    model = AutoSam(config_from_dict(settings), device="cpu")
    middle = float(model.predict(make_scene(3, side=64).image).probability.mean())
    model.decision = Decision(temperature=1.0, threshold=middle)
    return str(model.save_pretrained(tmp_path_factory.mktemp("model") / "run"))


@pytest.fixture
def ortho(tmp_path):
    return write_raster(tmp_path / "in" / "ortho.tif", river(200, 60)[0])


def bytes_in(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def source_of(folder, runtime=None):
    return ModelSource(model=folder, device="cpu", runtime=runtime)


def test_a_worker_masks_tiles_by_the_runtime_that_it_was_given(folder):
    tiles = [river(64, 64, seed=1)[0]]
    expected = AutoSam.from_pretrained(folder, device="cpu", runtime="onnx")
    by_torch, by_onnx = source_of(folder).load(), source_of(folder, "onnx").load()
    (found,) = by_onnx(tiles)
    np.testing.assert_array_equal(found, AutoSamTiles(expected)(tiles)[0])
    assert not np.array_equal(found, by_torch(tiles)[0])
    np.testing.assert_allclose(found, by_torch(tiles)[0], atol=1e-4)


def test_the_program_is_part_of_what_made_a_mask(folder, monkeypatch):
    model = AutoSam.from_pretrained(folder, device="cpu")
    assert AutoSamTiles(model).identity == model.identity
    set_runtime(model, "onnx")
    assert AutoSamTiles(model).identity == f"{model.identity} on onnx"
    set_runtime(model, "openvino")
    assert runtime_of(model) == "openvino"
    monkeypatch.setattr(runtimes, "LEAST_IOU", 0.0)
    set_runtime(model, "openvino-bf16")
    assert AutoSamTiles(model).identity == f"{model.identity} on openvino-bf16"
    set_runtime(model, "torch")
    assert AutoSamTiles(model).identity == model.identity


def test_a_runtime_that_was_refused_is_not_named(folder, monkeypatch):
    model = AutoSam.from_pretrained(folder, device="cpu", runtime="onnx")
    monkeypatch.setattr(runtimes, "_verdict", lambda *_: [0.5])
    with pytest.raises(ModelError, match=r"IoU of 0\.995"):
        set_runtime(model, "openvino")
    assert runtime_of(model) == "torch"


def test_what_one_program_began_another_begins_anew_and_what_it_finished_is_refused(
    folder, ortho, tmp_path
):
    output = tmp_path / "out" / "river.tif"
    begun = source_of(folder).load()

    class Stops:
        def __init__(self):
            self.count = 0

        def __getattr__(self, name):
            return getattr(begun, name)

        def __call__(self, tiles):
            self.count += 1
            if self.count > 3:
                raise KeyboardInterrupt
            return begun(tiles)

    with pytest.raises(KeyboardInterrupt):
        mask_raster(Stops(), ortho, output)
    assert list(unfinished(output).glob("strip-*.json"))
    mapped = mask_raster(source_of(folder, "onnx").load(), ortho, output)
    assert not mapped.resumed
    assert mapped.report["plan"]["model"] == f"{begun.identity} on onnx"
    with rasterio.open(output) as mask:
        assert mask.tags()["AUTOSAM_MODEL"] == f"{begun.identity} on onnx"
    with pytest.raises(OutputError, match=r"must be of one model, got .* on onnx' for"):
        mask_raster(begun, ortho, output)


def test_another_process_masks_by_the_runtime_with_the_same_bytes(folder, ortho, tmp_path):
    mask_raster(
        source_of(folder, "onnx").load(), ortho, tmp_path / "one" / "ortho.tif", settings=SETTINGS
    )
    command = [
        sys.executable, "-m", "autosam", "map", str(ortho), "-o", str(tmp_path / "two"), "-m", folder,
        "--device", "cpu", "--runtime", "onnx", "--workers", "2", "--probability", "float32",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    report = json.loads((tmp_path / "two" / "ortho.json").read_text())
    assert report["plan"]["model"].endswith(" on onnx")
    assert bytes_in(tmp_path / "two") == bytes_in(tmp_path / "one")


def test_the_command_names_the_runtime_in_what_it_prints(folder, ortho, tmp_path, capsys):
    arguments = [
        "map", str(ortho), "-o", str(tmp_path / "out"), "-m", folder, "--device", "cpu", "--json",
    ]  # fmt: skip
    assert run([*arguments, "--runtime", "onnx"]) == 0
    assert ' on onnx"' in capsys.readouterr().out
    assert run(arguments) == 1  # torch is another
    assert "must be of one model" in capsys.readouterr().out


def test_a_runtime_that_is_none_is_one_clear_line(folder, ortho, tmp_path, capsys):
    arguments = ["map", str(ortho), "-o", str(tmp_path / "out"), "-m", folder, "--device", "cpu"]
    assert run([*arguments, "--runtime", "openvin"]) == 2
    assert "got 'openvin'. Did you mean 'openvino'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_that_has_no_name_was_given_its_runtime_before(folder, ortho, tmp_path):
    model = AutoSam.from_pretrained(folder, device="cpu")
    with pytest.raises(ConfigError, match="runtime must be for a model that is named"):
        map_rasters(model, [str(ortho)], tmp_path / "out", runtime="onnx")
