"""Several scales of one tile: against torch's own resampling, without seams, and never another's work."""

import json
import re

import numpy as np
import pytest
import rasterio
import torch
from raster_scenes import DarkIsWater, river, write_raster
from torch.nn import functional

from autosam.cli import run
from autosam.config import config_from_dict
from autosam.errors import ConfigError
from autosam.inference.raster_plan import plan_raster
from autosam.inference.segmenter import AutoSam
from autosam.inference.tile_models import tile_probabilities
from autosam.inference.tile_scales import TileScales
from autosam.inference.tiles import mask_raster
from autosam.maps.journal import unfinished
from autosam.maps.settings import MapSettings


def values_of(path):
    with rasterio.open(path) as raster:
        return raster.read(1)


@pytest.fixture
def ortho(tmp_path):
    return write_raster(tmp_path / "in" / "ortho.tif", river(160, 200)[0])


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "river.tif"


def resized(picture, size):
    """By torch, in float32."""
    shown = torch.from_numpy(np.ascontiguousarray(picture)).float()
    channels = shown[None, None] if shown.ndim == 2 else shown.movedim(-1, 0)[None]
    found = functional.interpolate(
        channels, size, mode="bilinear", antialias=True, align_corners=False
    )[0]
    return (found[0] if picture.ndim == 2 else found.movedim(0, -1)).numpy()


def by_hand(model, tile, scales, *, side, overlap):
    """The tile resized whole, the model on windows of it, their sine-squared mean, resized back."""
    total = np.zeros(tile.shape[:2])
    for scale in scales:
        size = tuple(round(n * scale) for n in tile.shape[:2])
        seen = np.floor(resized(tile, size) + 0.5).astype(np.uint8)
        said, weights = np.zeros(size), np.zeros(size)
        steps = [
            sorted({min(start, max(n - side, 0)) for start in range(0, n, side - overlap)})
            for n in size
        ]
        for top in steps[0]:
            for left in steps[1]:
                window = np.s_[top : top + side, left : left + side]
                rows, columns = (
                    np.sin(np.pi / 2 * np.minimum(1, np.minimum(i, i[::-1]) / overlap)) ** 2
                    for i in (np.arange(n) + 0.5 for n in seen[window].shape[:2])
                )
                weight = rows[:, None] * columns
                said[window] += weight * model([seen[window]])[0]
                weights[window] += weight
        total += resized((said / weights).astype(np.float32), tile.shape[:2])
    return total / len(scales)


@pytest.mark.parametrize("size", [(80, 120), (120, 80), (128, 128), (37, 90)])
def test_the_mean_over_scales_is_that_of_a_tile_resized_whole(size):
    tile, scales = river(*size, seed=4)[0], (0.5, 1.0, 1.7)
    seen = TileScales(scales=scales, tile_size=size, side=64, overlap=16, batch=3)
    (found,) = tile_probabilities(DarkIsWater(64), [tile], dihedral=False, scales=seen)
    expected = by_hand(DarkIsWater(64), tile, scales, side=64, overlap=16)
    assert expected.std() > 0.1
    assert found.dtype == np.float32
    # A colour amid two grey levels may be rounded either way, which this model takes for up to 0.02.
    assert np.abs(found - expected).mean() < 2e-4
    assert np.abs(found - expected).max() < 0.02


def test_pieces_together_are_pieces_alone_and_each_is_of_the_models_size():
    tiles = [river(128, 128, seed=seed)[0] for seed in (1, 2)]
    model, found = DarkIsWater(64), []
    for batch in (1, 5):
        seen = TileScales(
            scales=(0.5, 1.0, 2.0), tile_size=(128, 128), side=64, overlap=16, batch=batch
        )
        found.append(tile_probabilities(model, tiles, dihedral=False, scales=seen))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0][0], found[0][1])
    # 1, 3 x 3 and 5 x 5 of each tile, 48 apart
    assert seen.pieces == 35
    assert model.shapes == [(64, 64, 3)] * (2 * 2 * 35)


def test_each_piece_is_turned_in_eight_ways():
    """A model that says where the corner of its view lies: even over the views, so even at each scale."""

    class Corner(DarkIsWater):
        def _one(self, tile):
            answer = np.zeros(tile.shape[:2], np.float32)
            answer[0, 0] = 1
            return answer

    # 112 pixels hold two pieces that lie alike from either end.
    seen = TileScales(scales=(1.0, 1.75), tile_size=(64, 64), side=64, overlap=16, batch=4)
    model = Corner(64)
    (found,) = tile_probabilities(model, [river(64, 64)[0]], dihedral=True, scales=seen)
    assert len(model.shapes) == 8 * (1 + 4)
    for view in (found[::-1], found[:, ::-1], found.T):
        np.testing.assert_allclose(found, view, atol=1e-6)
    assert found[0, 0] > 0.1


def test_a_piece_that_fails_costs_its_tile_and_no_other():
    bright = river(128, 128)[0]
    bright[:64, :64] = 255
    seen = TileScales(scales=(0.5, 1.0), tile_size=(128, 128), side=64, overlap=16, batch=4)
    model = DarkIsWater(64, fails=220)
    found = tile_probabilities(model, [river(128, 128)[0], bright], dihedral=False, scales=seen)
    assert found[1] == "this tile is too bright"
    assert found[0].shape == (128, 128)


def test_a_scale_of_one_alone_gives_the_bytes_of_the_default(tmp_path, ortho):
    files = []
    for name, settings in (("a", {}), ("b", {"scales": (1,)})):
        target = tmp_path / name / "river.tif"
        mask_raster(
            DarkIsWater(), ortho, target, settings=MapSettings(probability="float32", **settings)
        )
        files.append({path.name: path.read_bytes() for path in target.parent.iterdir()})
    assert files[0] == files[1]
    assert len(files[0]) == 3


@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0), (2.0,), (0.5,)])
def test_tiles_seen_at_several_scales_have_no_seams(tmp_path, ortho, output, scales):
    """A model that says of each pixel what it is, whatever lies beside it: tiles must not show."""

    class Grey(DarkIsWater):
        def _one(self, tile):
            return (1 - tile.astype(np.float32).mean(axis=2) / 255).astype(np.float32)

    settings = MapSettings(probability="float32", scales=scales)
    mask_raster(Grey(64), ortho, output, settings=settings)
    mask_raster(Grey(1000), ortho, tmp_path / "whole.tif", settings=settings)
    tiled = values_of(output.with_suffix(".probability.tif"))
    whole = values_of(tmp_path / "whole.probability.tif")
    # Resampled alone, a tile's outermost pixels lack their neighbours; their weight is near nothing.
    assert np.abs(tiled - whole).max() < 0.02
    assert np.abs(tiled - whole).mean() < 1e-3
    assert tiled.std() > 0.1


def test_the_report_and_the_tags_state_the_scales(ortho, output):
    settings = MapSettings(scales=(2, 0.5), dihedral=True)
    mask_raster(DarkIsWater(), ortho, output, settings=settings)
    report = json.loads(output.with_suffix(".json").read_text())
    assert report["plan"]["settings"]["scales"] == [0.5, 2.0]
    assert report["plan"]["tile_size"] == [128, 128]
    with rasterio.open(output) as mask:
        assert mask.tags()["AUTOSAM_SCALES"] == "0.5,2"
        assert mask.tags()["AUTOSAM_DIHEDRAL"] == "YES"


class Stops(DarkIsWater):
    def __call__(self, tiles):
        if len(self.shapes) > 90:
            raise KeyboardInterrupt
        return super().__call__(tiles)


def test_a_run_that_was_killed_goes_on_at_its_own_scales_and_begins_anew_at_others(
    tmp_path, ortho, output
):
    settings = MapSettings(scales=(1.0, 2.0))
    mask_raster(DarkIsWater(), ortho, output, settings=settings)
    expected = output.read_bytes(), output.with_suffix(".json").read_bytes()
    for scales, resumed in (((1.0, 2.0), True), ((1.0, 1.5), False)):
        other = tmp_path / str(resumed) / "river.tif"
        with pytest.raises(KeyboardInterrupt):
            mask_raster(Stops(), ortho, other, settings=settings)
        assert list(unfinished(other).glob("strip-*.json"))
        mapped = mask_raster(DarkIsWater(), ortho, other, settings=MapSettings(scales=scales))
        assert mapped.resumed is resumed
        same = (other.read_bytes(), other.with_suffix(".json").read_bytes()) == expected
        assert same is resumed
    # Nor is a finished mask of other scales taken for one's own.
    assert mask_raster(DarkIsWater(), ortho, output).status == "written"


def test_a_plan_counts_every_look_and_the_memory_of_larger_tiles(ortho):
    model = DarkIsWater(64)
    plain = plan_raster(model, ortho)
    assert (plain.tiles, plain.looks) == (12, 1)
    several = plan_raster(model, ortho, settings=MapSettings(scales=(0.5, 1, 2), dihedral=True))
    assert several.tiles == 2 * 2  # 128 wide, at most 96 apart
    assert several.looks == 35 * 8
    assert model.shapes[-1] == (64, 64, 3)  # one look is timed, and not all of them
    assert several.seconds > 10 * plain.seconds


def test_a_raster_too_small_for_a_coarse_scale_is_told_of(tmp_path, output):
    small = write_raster(tmp_path / "small.tif", river(60, 100)[0])
    mapped = mask_raster(DarkIsWater(64), small, output, settings=MapSettings(scales=(0.5, 1)))
    assert "at scale 0.5 a tile has 128 pixels, and the raster fewer" in mapped.report["notes"][0]
    enough = mask_raster(
        DarkIsWater(64), small, output.with_name("b.tif"), settings=MapSettings(scales=(0.8, 1))
    )
    assert enough.report["notes"] == []


@pytest.mark.parametrize(
    "scales",
    [(), (0,), (-1, 1), (0.2,), (1, 4.5), (1, 1.0), (0.5, 1, 1.5, 2, 3, 4), ("1",), 2, "1,2",
     (float("nan"),)],
)  # fmt: skip
def test_scales_that_cannot_be_are_refused(scales):
    with pytest.raises(ConfigError, match=re.escape(f"from 0.25 to 4, got {scales!r}")):
        MapSettings(scales=scales)


@pytest.mark.parametrize("given", ["", "x", "0", "1,1", "8", "-1", "nan", "1,,2"])
def test_the_command_refuses_scales_that_cannot_be(ortho, tmp_path, capsys, given):
    assert run(["map", str(ortho), "-o", str(tmp_path / "out"), "--scales", given]) == 2
    assert re.search(r"autosam: (--)?scales must be .*, got ", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_command_masks_at_several_scales(tmp_path, tiny_sam_folder, capsys):
    small = write_raster(tmp_path / "in" / "a.tif", river(120, 150)[0])
    settings = {"sam": {"name": str(tiny_sam_folder)}, "method": "unet"}
    AutoSam(config_from_dict(settings), device="cpu").save_pretrained(tmp_path / "run")
    arguments = [
        "map", str(small), "-o", str(tmp_path / "out"), "-m", str(tmp_path / "run"),
        "--device", "cpu", "--scales", "2,1",
    ]  # fmt: skip
    assert (
        run([*arguments, "--dry-run"]) == 0
    )  # 240 x 300 pixels are two pieces for its side of 256
    assert ": 1 tile, each looked at 3 times, none of them without data" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert run(arguments) == 0
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["plan"]["settings"]["scales"] == [1.0, 2.0]
