import numpy as np
import pytest
import rasterio
import torch
from raster_scenes import DarkIsWater, river, write_raster

from autosam.config import config_from_dict
from autosam.errors import ConfigError, ModelError
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_models import AutoSamTiles, tile_probabilities
from autosam.inference.tiles import mask_raster
from autosam.models.checkpoints import Decision

TILES = [river(64, 64, seed=1)[0], river(64, 64, seed=2)[0], river(40, 50, seed=3)[0]]


def model_of(sam_folder, **changes):
    settings = {
        "sam": {"name": str(sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
        **changes,
    }
    decision = Decision(temperature=1.7, threshold=0.45)
    torch.manual_seed(0)
    return AutoSam(config_from_dict(settings), decision=decision, device="cpu")


@pytest.mark.parametrize("radius", [0, 2])
@pytest.mark.parametrize("method", ["autosam", "decoder-box-full", "unet"])
def test_tiles_together_are_what_the_model_predicts_of_each(tiny_sam_folder, method, radius):
    model = model_of(tiny_sam_folder, method=method, refine={"radius": radius})
    found = AutoSamTiles(model)(TILES)
    for tile, probability in zip(TILES, found, strict=True):
        expected = model.predict_image(tile).probability
        assert expected.std() > 1e-4  # not a constant, which anything would equal
        np.testing.assert_allclose(probability, expected, atol=2e-5)


def test_a_trained_model_masks_a_raster(tmp_path, tiny_sam_folder):
    model = model_of(tiny_sam_folder)
    image = river(64, 64)[0]  # one tile: the mask must be that of the picture
    ortho = write_raster(tmp_path / "a.tif", image)
    mapped = mask_raster(model, ortho, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as mask:
        assert np.array_equal(mask.read(1) == 1, model.predict_image(image).mask)
    assert mapped.report["plan"]["model"] == model.identity
    assert mapped.report["threshold"] == 0.45


def test_what_a_model_wrote_down_of_its_ground_resolution_is_used(tiny_sam_folder):
    model = model_of(tiny_sam_folder, method="unet")
    assert AutoSamTiles(model).ground_resolution is None
    model.facts["ground_resolution"] = {"low": 0.2, "high": 1}
    assert AutoSamTiles(model).ground_resolution == (0.2, 1.0)


@pytest.mark.parametrize("known", [{"low": 2, "high": 1}, {"low": 1}, 0.3, {"low": "x", "high": 1}])
def test_a_ground_resolution_that_is_no_range_is_an_error(tiny_sam_folder, known):
    model = model_of(tiny_sam_folder, method="unet")
    model.facts["ground_resolution"] = known
    with pytest.raises(ModelError, match="ground_resolution must be"):
        AutoSamTiles(model)


def test_an_oracle_cannot_mask_a_raster(tiny_sam_folder):
    model = model_of(tiny_sam_folder, method="decoder")
    oracle = model.prompted_by(oracle=True)
    with pytest.raises(ConfigError, match="got an oracle"):
        AutoSamTiles(oracle)


def test_a_model_of_more_bands_is_refused_by_name(tiny_sam_folder):
    model = model_of(tiny_sam_folder, method="autosam")
    model.network.bands = ("nir",)
    with pytest.raises(ConfigError, match="also reads nir"):
        AutoSamTiles(model)


def test_one_bad_tile_costs_no_other():
    bright = np.full((64, 64, 3), 250, np.uint8)
    found = tile_probabilities(DarkIsWater(fails=240), [TILES[0], bright, TILES[1]], dihedral=False)
    assert found[1] == "this tile is too bright"
    assert np.array_equal(found[0], DarkIsWater()([TILES[0]])[0])
    assert np.array_equal(found[2], DarkIsWater()([TILES[1]])[0])


@pytest.mark.parametrize("bad", [np.full((64, 64), np.nan, np.float32), np.zeros((1, 64, 64))])
def test_nonsense_is_a_failure_and_no_mask(bad):
    class Nonsense(DarkIsWater):
        def _one(self, tile):
            return bad

    (found,) = tile_probabilities(Nonsense(), [TILES[0]], dihedral=False)
    assert "finite numbers of the tile's size (64, 64)" in found


def test_the_eight_views_are_turned_back():
    """A model that answers with where the pixel lies in the view: averaged over all views it is even."""

    class Corner(DarkIsWater):
        def _one(self, tile):
            answer = np.zeros(tile.shape[:2], np.float32)
            answer[0, 0] = 1
            return answer

    (found,) = tile_probabilities(Corner(), [TILES[2]], dihedral=True)
    expected = np.zeros((40, 50))
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] = 0.25
    assert np.array_equal(found, expected)

    class Echo(DarkIsWater):
        def _one(self, tile):
            return (tile[..., 0] / 255).astype(np.float32)

    (echo,) = tile_probabilities(Echo(), [TILES[2]], dihedral=True)
    np.testing.assert_allclose(echo, TILES[2][..., 0] / 255, atol=1e-6)


def test_a_bug_in_a_model_is_not_taken_for_a_bad_tile():
    class Buggy(DarkIsWater):
        def _one(self, tile):
            raise AttributeError("no such thing")

    with pytest.raises(AttributeError):
        tile_probabilities(Buggy(), [TILES[0]], dihedral=False)
