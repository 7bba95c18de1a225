"""The processor that is built here against the ones that transformers loads, and against our own geometry."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, SamImageProcessor, SamProcessor

from autosam.data.geometry import normalise, to_square
from autosam.data.prompt_geometry import points_to_square
from autosam.errors import AccessError, AutoSamError, MissingPathError, ModelError
from autosam.models.sam_processor import load_processor

PICTURE = np.random.default_rng(0).integers(0, 256, (30, 48, 3), dtype=np.uint8)


def processor_of(side: int) -> SamProcessor:
    square = {"height": side, "width": side}
    return SamProcessor(SamImageProcessor(size={"longest_edge": side}, pad_size=square))


@pytest.mark.parametrize("name", ["base", "large", "huge", "facebook/sam-vit-huge"])
def test_a_published_processor_needs_no_hub_and_equals_transformers_default(name):
    ours = load_processor(name)(PICTURE, return_tensors="pt")
    theirs = SamProcessor(SamImageProcessor())(PICTURE, return_tensors="pt")
    assert ours.keys() == theirs.keys()
    assert ours["pixel_values"].shape == (1, 3, 1024, 1024)
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], rtol=0, atol=1e-6)
    assert ours["original_sizes"].tolist() == theirs["original_sizes"].tolist() == [[30, 48]]


def test_pixels_and_points_are_those_of_our_own_square():
    point = [[[[7.0, 11.0]]]]
    inputs = load_processor("base")(PICTURE, input_points=point, return_tensors="pt")
    square, frame = to_square(PICTURE, 1024)
    pixels = normalise(square[None], torch.tensor([frame.square_size]))
    torch.testing.assert_close(inputs["pixel_values"], pixels, rtol=0, atol=1e-6)
    ours = points_to_square(np.array([7.0, 11.0]), frame)
    np.testing.assert_allclose(inputs["input_points"][0, 0, 0], ours, rtol=1e-6)


def test_a_folder_with_a_processor_is_read(tmp_path):
    processor_of(96).save_pretrained(tmp_path)
    pixels = load_processor(tmp_path)(PICTURE, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 96, 96)


def test_a_folder_as_transformers_4_wrote_it_is_read(tmp_path):
    processor_of(96).image_processor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    pixels = load_processor(tmp_path)(PICTURE, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 96, 96)


def test_a_sam_without_a_processor_has_one_of_its_side(tiny_sam_folder):
    pixels = load_processor(tiny_sam_folder)(PICTURE, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)


def clip(folder):
    CLIPImageProcessor().save_pretrained(folder)


def damaged(folder):
    (folder / "preprocessor_config.json").write_text("{")


def empty(folder):
    assert not list(folder.iterdir())


def another_model(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (clip, ModelError, "processor must be that of a SAM, got CLIPImageProcessor"),
        (damaged, ModelError, "folder must hold the processor of a SAM, got .*not a valid JSON"),
        (empty, MissingPathError, "config.json must exist"),
        (another_model, ModelError, "model must be a SAM"),
    ],
)
def test_a_folder_of_another_kind_is_refused(tmp_path, make, kind, message):
    make(tmp_path)
    with pytest.raises(kind, match=message):
        load_processor(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("hug", ModelError, "got 'hug'. Did you mean 'huge'?"),
        ("a/b/c", ModelError, "got 'a/b/c'. Choose one of: base, huge, large."),
        ("./nowhere", MissingPathError, "must be a folder that exists, got './nowhere'"),
        ("owner/sam", ModelError, r"got 'owner/sam' \(.*\). Use 'base', 'large' or 'huge', which"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name, kind, message):
    with pytest.raises(kind, match=message) as caught:
        load_processor(name)
    assert isinstance(caught.value, AutoSamError)
    assert "\n" not in str(caught.value)


def test_a_model_that_the_hub_denies_is_an_access_error(monkeypatch):
    class RepositoryNotFoundError(Exception):
        """As huggingface_hub's, which needs a response to be made."""

    def denied(*arguments, **settings):
        raise OSError("not a valid model identifier") from RepositoryNotFoundError()

    monkeypatch.setattr(SamProcessor, "from_pretrained", denied)
    with pytest.raises(AccessError, match=r"open to you, got .owner/secret. .*hf auth login"):
        load_processor("owner/secret", token="hf_x")
