"""Other programs that encode for SAM: they must agree with torch, be kept, and else be refused."""

from pathlib import Path

import pytest
import torch

from autosam.cli import run
from autosam.config import config_from_dict
from autosam.data.synthetic import make_scene
from autosam.errors import ModelError
from autosam.inference import number_formats, runtimes
from autosam.inference.number_formats import product_speeds
from autosam.inference.runtimes import (
    LEAST_IOU,
    encoder_on,
    measured_agreement,
    remember_choice,
    remembered_choice,
    runtime_folder,
    set_runtime,
)
from autosam.inference.segmenter import AutoSam
from autosam.models.checkpoints import Decision
from autosam.recipes import benching
from autosam.recipes.benching import bench_runtimes

pytestmark = pytest.mark.usefixtures("openvino_in_float32")


def make_model(sam_folder: Path, **changes) -> AutoSam:
    settings = {
        "sam": {"name": str(sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
        **changes,
    }
    torch.manual_seed(0)
    model = AutoSam(config_from_dict(settings), device="cpu")
    # A threshold amid the probabilities: masks that are all land would agree whatever was encoded.
    middle = model.predict(make_scene(3, side=64).image).probability.mean()
    model.decision = Decision(temperature=1.0, threshold=float(middle))
    return model


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of rasters keep theirs too, for to convert an encoder takes seconds."""
    return tmp_path_factory.getbasetemp() / "cache"


@pytest.fixture(autouse=True)
def _kept_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(runtimes, "SCENE_SIDE", 64)


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "openvino-bf16", "torch-bf16"])
def test_a_runtime_encodes_as_torch_does(tiny_sam_folder, runtime):
    model = make_model(tiny_sam_folder)
    pixels = torch.randn(2, 3, 64, 64)
    encode = encoder_on(model.network.sam, runtime)
    with torch.inference_mode():
        expected, found = model.network.sam.embed(pixels), encode(pixels)
    assert found.dtype == torch.float32
    error = float((found - expected).norm() / expected.norm())
    assert error < (0.05 if runtime == "torch-bf16" else 1e-5)
    assert (error > 1e-4) == (runtime == "torch-bf16")


@pytest.mark.parametrize(("runtime", "half"), [("openvino", False), ("openvino-bf16", True)])
def test_openvino_is_told_which_format_to_take(tiny_sam_folder, monkeypatch, runtime, half):
    told = []
    monkeypatch.setattr(
        runtimes, "compile_graph", lambda path, compiler, half: told.append((compiler, half))
    )
    encoder_on(make_model(tiny_sam_folder).network.sam, runtime)
    assert told == [("openvino", half)]


def test_the_runtime_that_was_set_encodes_every_prediction(tiny_sam_folder, tmp_path):
    make_model(tiny_sam_folder).save_pretrained(tmp_path / "run")
    plain = AutoSam.from_pretrained(tmp_path / "run", device="cpu")
    model = AutoSam.from_pretrained(tmp_path / "run", device="cpu", runtime="onnx")
    picture = make_scene(5, side=64).image
    assert torch.equal(model.embed(picture), encoder_on(model.network.sam, "onnx")(_seen(picture)))
    torch.testing.assert_close(model.embed(picture), plain.embed(picture), rtol=0, atol=1e-4)
    clicked = model.predict(picture, points=[(9, 9)], labels=[1])
    assert clicked.mask_logits is not None
    set_runtime(model, "torch")
    assert torch.equal(model.embed(picture), plain.embed(picture))


def _seen(picture):
    from autosam.data.geometry import normalise, to_square

    square, frame = to_square(picture, 64)
    return normalise(square[None], torch.tensor([frame.square_size]))


def test_a_runtime_whose_masks_differ_is_refused_with_the_numbers(tiny_sam_folder, monkeypatch):
    model = make_model(tiny_sam_folder, seed=1)
    own = model.network.sam.encode_by_torch
    monkeypatch.setattr(runtimes, "encoder_on", lambda sam, runtime: lambda pixels: -own(pixels))
    with pytest.raises(
        ModelError, match=r"IoU of 0.995 and more with those on 'torch', got 0\.\d+, .* drawn"
    ):
        set_runtime(model, "onnx")
    picture = make_scene(5, side=64).image
    assert torch.equal(model.embed(picture), own(_seen(picture)))  # it is left on torch


def test_converting_and_comparing_happen_once(tiny_sam_folder, monkeypatch):
    model = make_model(tiny_sam_folder)
    assert set_runtime(model, "onnx") == "onnx"
    monkeypatch.setattr(runtimes, "write_onnx", None)
    monkeypatch.setattr(runtimes, "measured_agreement", None)
    again = make_model(tiny_sam_folder)
    assert set_runtime(again, "onnx") == "onnx"


def test_another_encoder_is_another_place_in_the_cache(tiny_sam_folder):
    sam = make_model(tiny_sam_folder).network.sam
    before = runtime_folder(sam)
    with torch.no_grad():
        next(sam.image_encoder.parameters()).view(-1)[0] += 1e-3
    assert runtime_folder(sam) != before


def test_agreement_is_one_with_itself_and_less_with_noise(tiny_sam_folder):
    model = make_model(tiny_sam_folder)
    own = model.network.sam.encode_by_torch
    assert measured_agreement(model, own) == [1.0, 1.0, 1.0]
    noisy = measured_agreement(model, lambda pixels: own(pixels) + torch.randn(1, 32, 4, 4))
    assert min(noisy) < LEAST_IOU


def test_the_choice_that_was_measured_is_what_auto_takes(tiny_sam_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtimes, "measured_agreement", lambda *_: [1.0])
    model = make_model(tiny_sam_folder)
    assert set_runtime(model, "auto") == "torch"  # nothing was measured
    monkeypatch.setattr(runtimes, "half_pays", lambda: True)
    remember_choice(model, "torch-bf16", {})
    assert remembered_choice(model) == "torch-bf16"
    assert set_runtime(model, "auto") == "torch-bf16"
    monkeypatch.setattr(runtimes, "half_pays", lambda: False)  # another machine
    assert set_runtime(model, "auto") == "torch"


def test_a_damaged_file_of_the_cache_counts_as_none(tiny_sam_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = make_model(tiny_sam_folder)
    path = remember_choice(model, "torch", {})
    path.write_text("{")
    assert remembered_choice(model) is None


@pytest.mark.parametrize(
    ("changes", "runtime", "message"),
    [
        ({}, "openvin", "runtime must be a known one, got 'openvin'. Did you mean 'openvino'"),
        ({"method": "unet"}, "onnx", "for a model with SAM's image encoder, got 'unet'"),
    ],
)
def test_a_runtime_that_cannot_be_is_refused(tiny_sam_folder, changes, runtime, message):
    with pytest.raises(ModelError, match=message):
        set_runtime(make_model(tiny_sam_folder, **changes), runtime)


def test_half_precision_is_offered_where_its_products_are_fast(monkeypatch):
    for half, offered in ((100.0, False), (149.0, False), (151.0, True)):
        number_formats.half_pays.cache_clear()
        monkeypatch.setattr(
            number_formats, "product_speeds", lambda h=half: {"float32": 100.0, "bfloat16": h}
        )
        assert number_formats.half_pays() is offered
    number_formats.half_pays.cache_clear()


def test_products_are_timed_in_both_formats():
    speeds = product_speeds()
    assert set(speeds) == {"float32", "bfloat16"}
    assert all(speed > 0 for speed in speeds.values())


def test_the_doctor_times_every_runtime_and_keeps_the_fastest(
    tiny_sam_folder, tmp_path, monkeypatch, capsys
):
    make_model(tiny_sam_folder).save_pretrained(tmp_path / "run")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # a choice concerns all models
    monkeypatch.setattr(benching, "available_runtimes", lambda: ("torch", "torch-bf16"))
    assert run(["doctor", "--bench", "-m", str(tmp_path / "run")]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["transformers", "torch", "torch-bf16"]
    assert sum("<- runtime='auto'" in row for row in rows) == 1
    picked = next(row.split()[0] for row in rows if "auto" in row)
    model = AutoSam.from_pretrained(tmp_path / "run", device="cpu")
    assert remembered_choice(model) == picked


def test_the_fastest_that_agrees_is_chosen_and_torch_when_in_doubt():
    fast = {"transformers": 1.0, "torch": 9.0, "onnx": 3.0, "openvino": 2.0}
    assert benching._fastest(fast, {"torch": 1.0, "onnx": 1.0, "openvino": 0.9}) == "onnx"
    assert benching._fastest(fast, {"torch": 1.0}) == "torch"
    near = {"torch": 9.0, "onnx": 8.9}
    assert benching._fastest(near, {"torch": 1.0, "onnx": 1.0}) == "torch"


def test_a_model_without_a_sam_has_nothing_to_time(tiny_sam_folder, tmp_path):
    make_model(tiny_sam_folder, method="unet").save_pretrained(tmp_path / "run")
    with pytest.raises(ModelError, match="must have SAM's image encoder to be timed, got 'unet'"):
        bench_runtimes(tmp_path / "run")
