"""Clicks drawn into the mask prompt lie where the click lies, and only for a SAM that wants them."""

import json
import shutil

import numpy as np
import pytest
import torch

from autosam.errors import ModelError
from autosam.models.query_decoding import decode_prompts
from autosam.models.sam import load_sam, save_sam_hub
from autosam.prompts.click_discs import ClickDiscs
from autosam.types import Query, SquarePrompt

DISCS = ClickDiscs(radius=1.5, logit=20.0)


def with_discs(tiny_sam_folder, tmp_path, values):
    folder = tmp_path / "sam"
    shutil.copytree(tiny_sam_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["prompt_encoder_config"]["click_discs"] = values
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def decoded(sam, *prompts):
    embedding = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(5))
    embedding = embedding.expand(len(prompts), -1, -1, -1)
    with torch.no_grad():
        return decode_prompts(sam, embedding, sam.no_mask_embedding(len(prompts)), list(prompts))[0]


def test_a_disc_is_the_cells_within_its_radius():
    points, labels = torch.tensor([[[5.2, 9.0], [12.0, 3.0]]]), torch.tensor([[1, 0]])
    drawn = DISCS.drawn(None, points, labels, low=16)[0, 0]
    for y in range(16):
        for x in range(16):
            water = (x - 5.2) ** 2 + (y - 9) ** 2 <= 1.5**2
            land = (x - 12) ** 2 + (y - 3) ** 2 <= 1.5**2
            assert drawn[y, x] == 20 * water - 20 * land


def test_a_later_click_lies_over_an_earlier_one_and_padding_draws_nothing():
    mask = torch.full((1, 1, 16, 16), 3.0)
    points = torch.tensor([[[8.0, 8.0], [9.0, 8.0], [1.0, 1.0]]])
    drawn = DISCS.drawn(mask, points, torch.tensor([[1, 0, -10]]), low=16)[0, 0]
    assert drawn[8, 7] == 20
    assert drawn[8, 8] == drawn[8, 9] == -20
    assert drawn[1, 1] == 3
    assert mask.unique().tolist() == [3.0]  # the mask that was given is left alone


def test_sam_finds_its_clicks_in_the_mask_prompt_where_it_wants_them(tiny_sam_folder, tmp_path):
    values = {"radius": 1.5, "logit": 20.0}
    sam = load_sam(with_discs(tiny_sam_folder, tmp_path, values))
    plain = load_sam(tiny_sam_folder)
    query = Query(points=np.array([[21.5, 37.5]]), labels=np.array([1]))  # cell (5, 9) of 16
    by_hand = torch.zeros(16, 16)
    by_hand[8:11, 4:7] = 20.0  # radius 1.5 holds all eight neighbours
    expected = decoded(plain, SquarePrompt(queries=(query,), mask_logits=by_hand))
    found = decoded(sam, SquarePrompt(queries=(query,)))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, decoded(plain, SquarePrompt(queries=(query,))))
    assert torch.equal(decoded(sam, SquarePrompt()), decoded(plain, SquarePrompt()))


def test_pictures_of_a_batch_and_queries_of_a_picture_have_their_own_discs(
    tiny_sam_folder, tmp_path
):
    sam = load_sam(with_discs(tiny_sam_folder, tmp_path, {"radius": 1.5, "logit": 20.0}))
    one = Query(points=np.array([[10.0, 10.0]]), labels=np.array([1]))
    two = Query(points=np.array([[50.0, 40.0]]), labels=np.array([0]))
    alone = [decoded(sam, SquarePrompt(queries=(query,)))[0] for query in (one, two)]
    together = decoded(
        sam, SquarePrompt(queries=(one,)), SquarePrompt(), SquarePrompt(queries=(two,))
    )
    torch.testing.assert_close(together[0], alone[0])
    torch.testing.assert_close(together[2], alone[1])
    fused = decoded(sam, SquarePrompt(queries=(one, two), fusion="mean"))[0]
    torch.testing.assert_close(fused, torch.stack(alone).mean(dim=0))


def test_the_wish_is_kept_when_sam_is_written(tiny_sam_folder, tmp_path):
    values = {"radius": 2.5, "logit": 12.0}
    sam = load_sam(with_discs(tiny_sam_folder, tmp_path, values))
    save_sam_hub(sam, tmp_path / "again")
    assert load_sam(tmp_path / "again").click_discs == ClickDiscs(**values)
    assert load_sam(tiny_sam_folder).click_discs is None


@pytest.mark.parametrize("values", [5, {"radius": 2}, {"radius": "wide", "logit": 3}])
def test_a_wish_that_cannot_be_read_is_refused(tiny_sam_folder, tmp_path, values):
    with pytest.raises(ModelError, match="must hold the numbers radius and logit"):
        load_sam(with_discs(tiny_sam_folder, tmp_path, values))
