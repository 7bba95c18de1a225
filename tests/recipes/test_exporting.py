"""A run as one ONNX file: against the run itself, on every runtime, and what it must refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
import torch
from raster_scenes import river, write_raster

from autosam.cli import run
from autosam.config import config_from_dict
from autosam.data.geometry import PIXEL_MEAN, PIXEL_STD, normalise, shrink_squares
from autosam.data.synthetic import make_scene
from autosam.errors import CheckpointError, ConfigError, MissingPackageError, ModelError
from autosam.inference import runtimes
from autosam.inference.logits import low_logits
from autosam.inference.segmenter import AutoSam
from autosam.inference.tiles import mask_raster
from autosam.models import compiled_graphs
from autosam.models.checkpoints import Decision
from autosam.models.guided_filter import GuidedFilter
from autosam.models.probability_graph import (
    ProbabilityGraph,
    _half_up,
    shrinking_weights,
    write_onnx,
)
from autosam.recipes import exporting
from autosam.recipes.exporting import export_run

pytestmark = pytest.mark.usefixtures("openvino_in_float32")


def make_run(folder: Path, sam_folder: Path, **changes) -> Path:
    settings = {
        "sam": {"name": str(sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
        **changes,
    }
    torch.manual_seed(0)
    AutoSam(
        config_from_dict(settings),
        decision=Decision(temperature=0.2, threshold=0.45),
        facts={"ground_resolution": {"low": 0.1, "high": 0.4}},
        device="cpu",
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_run(tiny_sam_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "tiny", tiny_sam_folder)


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    assert run(["export", str(tiny_run), str(path)]) == 0
    return path


@pytest.mark.parametrize("size", [64, (40, 100)])
def test_a_filter_along_edges_is_in_the_graph_and_sees_no_padding(tiny_sam_folder, tmp_path, size):
    run_folder = make_run(tmp_path / "refined", tiny_sam_folder, refine={"radius": 2})
    network = AutoSam.from_pretrained(run_folder, device="cpu").network
    scene = make_scene(3, side=size)
    with torch.inference_mode():
        low, square = low_logits(network, scene)
        expected = network.guided_filter(low[None], square.squares, inside=square.inside)
        std, mean = (torch.tensor(values)[:, None, None] for values in (PIXEL_STD, PIXEL_MEAN))
        unit = (normalise(square.squares, square.sizes) * std + mean) / 255  # as a file is given it
        found = ProbabilityGraph(network, temperature=0.2).eval()(unit)
    inside = square.inside
    assert expected[inside].std() > 0.01
    torch.testing.assert_close(
        found[inside], torch.sigmoid(expected / 0.2)[inside], atol=2e-3, rtol=0
    )


class _Filtered(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        low = torch.nn.functional.avg_pool2d(image[:, :1], 4) * 8 - 4
        inside = image.amax(dim=1, keepdim=True) > 0.1
        return GuidedFilter(radius=2, epsilon=3e-4)(low, 255 * image, inside=inside)


def test_onnx_can_say_the_filter(tmp_path: Path):
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    image[..., 20:, :] = 0.05
    path = tmp_path / "filter.onnx"
    write_onnx(_Filtered().eval(), image, path, names=("image", "logits"), batched=False)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"image": image.numpy()})
    np.testing.assert_allclose(found, _Filtered()(image).numpy(), atol=1e-3)


@pytest.mark.parametrize("sides", [(512, 384), (512, 96), (64, 48), (48, 64), (1024, 320)])
def test_shrinking_by_products_is_torchs_shrinking_to_the_grey_level(sides: tuple[int, int]):
    side, to_side = sides
    squares = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    weights = shrinking_weights(side, to_side)
    found = _half_up(weights @ _half_up(squares.float() @ weights.T))
    assert torch.equal(found, shrink_squares(squares, to_side, antialias=True).float())


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("size", [64, (40, 100)])
def test_the_file_predicts_what_the_run_predicts(tiny_run, exported, runtime, size):
    scene = make_scene(3, side=size)
    expected = AutoSam.from_pretrained(tiny_run, device="cpu").predict(scene.image)
    model = AutoSam.from_pretrained(exported, runtime=runtime)
    found = model.predict(scene.image)
    assert expected.probability.std() > 0.01  # not a constant, which anything would equal
    np.testing.assert_allclose(found.probability, expected.probability, atol=2e-3)
    assert found.threshold == expected.threshold == 0.45
    assert model.identity != AutoSam.from_pretrained(tiny_run, device="cpu").identity


def test_a_whole_graph_is_halved_where_the_masks_agree(exported, tmp_path, monkeypatch):
    compared, drawn = [], runtimes._drawn_masks
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtimes, "SCENE_SIDE", 64)
    monkeypatch.setattr(
        runtimes,
        "_drawn_masks",
        lambda model: compared.append(model.network.is_half) or drawn(model),
    )
    monkeypatch.setattr(runtimes, "LEAST_IOU", 0.0)
    for _ in range(2):
        model = AutoSam.from_pretrained(exported, runtime="openvino-bf16")
        assert model.network.is_half
        assert runtimes.runtime_of(model) == "openvino-bf16"
    assert compared == [False, True]  # once: the second finds what the first found
    assert runtimes.set_runtime(model, "openvino") == "openvino"
    assert not model.network.is_half
    monkeypatch.setattr(runtimes, "LEAST_IOU", 1.1)
    with pytest.raises(ModelError, match=r"on 'openvino-bf16' must .* Use runtime='openvino'\."):
        AutoSam.from_pretrained(exported, runtime="openvino-bf16")


def test_the_graph_takes_any_number_of_pictures_at_once(exported):
    session = onnxruntime.InferenceSession(str(exported))
    pictures = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    together = session.run(None, {"image": pictures})[0]
    assert together.shape == (3, 1, 64, 64)
    for picture, probability in zip(pictures, together, strict=True):
        alone = session.run(None, {"image": picture[None]})[0]
        np.testing.assert_allclose(alone[0], probability, atol=1e-5)


def test_the_file_says_what_deepness_asks(exported):
    # As the plugin reads it: each value is JSON; one input and one square output of four dimensions.
    model = onnx.load(exported)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["model_type"] == "Segmentor"
    assert told["class_names"] == {"0": "water"}
    assert told["resolution"] == pytest.approx(20)  # centimetres, between 10 and 40
    assert told["tiles_size"] == told["tile_size"] == 64
    assert told["seg_thresh"] == 0.45
    assert (told["standardization_mean"], told["standardization_std"]) == ([0] * 3, [1] * 3)
    session = onnxruntime.InferenceSession(str(exported))
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.type, taken.shape[1:]) == ("tensor(float)", [3, 64, 64])
    assert given.shape[1:] == [1, 64, 64]


def test_rasters_are_masked_by_the_file_as_by_the_run(tiny_run, exported, tmp_path):
    ortho = write_raster(tmp_path / "a.tif", river(64, 64)[0])
    masks = []
    for source in (tiny_run, exported):
        model = AutoSam.from_pretrained(source, device="cpu")
        mask_raster(model, ortho, tmp_path / "out.tif", overwrite=True)
        with rasterio.open(tmp_path / "out.tif") as raster:
            masks.append(raster.read(1))
    assert (masks[0] != masks[1]).mean() < 0.002


def test_what_a_file_cannot_do_is_said(exported, tmp_path):
    model = AutoSam.from_pretrained(exported)
    picture = make_scene(3, side=64).image
    with pytest.raises(ModelError, match="corrections must be for a method with a SAM"):
        model.predict(picture, points=[(3, 3)], labels=[1])
    with pytest.raises(ModelError, match=r"must predict alone, got .* save it .*\.onnx"):
        model.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()
    with pytest.raises(ModelError, match="must be given pixels alone"):
        model.predict_image(picture, image_embedding=torch.zeros(1, 32, 4, 4))
    with pytest.raises(ModelError, match=r"must be .* or 'openvino-bf16' for an ONNX file"):
        AutoSam.from_pretrained(exported, runtime="torch-bf16")
    with pytest.raises(ConfigError, match="model must be a run, got an exported file"):
        export_run(exported, tmp_path / "again.onnx")


def test_a_file_of_another_program_or_a_damaged_one_is_refused(exported, tmp_path):
    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(CheckpointError, match="that `autosam export` wrote in format 1"):
        AutoSam.from_pretrained(tmp_path / "other.onnx")
    (tmp_path / "half.onnx").write_bytes(exported.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="must be a readable ONNX file"):
        AutoSam.from_pretrained(tmp_path / "half.onnx")


def test_a_file_that_differs_from_the_run_is_never_given_its_name(
    tiny_run, exported, tmp_path, monkeypatch, capsys
):
    other = AutoSam.from_pretrained(tiny_run, device="cpu")
    other.decision = Decision(temperature=0.19, threshold=0.45)
    other.save_pretrained(tmp_path / "run")
    monkeypatch.setattr(
        exporting, "write_onnx", lambda module, example, path, **_: shutil.copy(exported, path)
    )
    assert run(["export", str(tiny_run), str(tmp_path / "same.onnx")]) == 0
    assert run(["export", str(tmp_path / "run"), str(tmp_path / "tiny.onnx")]) == 2
    assert "must be within 0.001 of the run's, got a difference" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run", "same.onnx"}


def test_a_file_is_replaced_only_when_asked(tiny_run, tmp_path, capsys):
    (tmp_path / "tiny.onnx").write_text("mine")
    assert run(["export", str(tiny_run), str(tmp_path / "tiny.onnx")]) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "tiny.onnx").read_text() == "mine"
    with pytest.raises(ConfigError, match=r"output must end in \.onnx"):
        export_run(tiny_run, tmp_path / "tiny.pt")


def test_a_model_that_needs_more_than_the_picture_is_refused(tiny_sam_folder, tmp_path):
    for changes in (
        {"method": "decoder"},
        {"prompt": {"network": "hardnet39ds", "side": 32, "bands": ["nir"]}},
    ):
        folder = make_run(tmp_path / "run", tiny_sam_folder, **changes)
        with pytest.raises(ConfigError, match="must see the picture alone to be exported"):
            export_run(folder, tmp_path / "a.onnx")


def test_a_missing_package_is_named(tiny_run, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_graphs, "is_installed", lambda compiler: False)
    with pytest.raises(MissingPackageError, match=r"pip install 'autosam\[onnx\]'"):
        AutoSam.from_pretrained(exported)
    monkeypatch.setattr(exporting, "_checked_difference", lambda *_: 0.0)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingPackageError, match="onnxscript must be installed"):
        export_run(tiny_run, tmp_path / "a.onnx")
