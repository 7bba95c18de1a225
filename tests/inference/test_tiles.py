import json

import numpy as np
import pytest
import rasterio
from raster_scenes import DarkIsWater, river, write_raster

from autosam.data.geometry import PADDING_COLOUR
from autosam.errors import ImageError, OutputError
from autosam.inference.tiles import mask_raster
from autosam.maps.journal import open_journal, unfinished
from autosam.maps.settings import MapSettings


def values_of(path):
    with rasterio.open(path) as raster:
        return raster.read(1)


@pytest.fixture
def ortho(tmp_path):
    return write_raster(tmp_path / "in" / "ortho.tif", river(300, 400)[0])


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "river.tif"


def test_moving_the_grid_by_half_a_tile_changes_almost_nothing(tmp_path, ortho):
    masks, shares = [], []
    for shift in (0, 32):
        target = tmp_path / f"{shift}.tif"
        settings = MapSettings(shift=shift, probability="float32")
        mask_raster(DarkIsWater(64), ortho, target, settings=settings)
        masks.append(values_of(target)[64:-64, 64:-64])
        shares.append(values_of(target.with_suffix(".probability.tif"))[64:-64, 64:-64])
    assert (masks[0] != masks[1]).mean() < 1e-3
    # The model is not quite the same at a tile's edge, where nearly all is another tile's word.
    assert np.abs(shares[0] - shares[1]).max() < 0.02


def test_blended_tiles_are_what_the_model_says_of_the_whole(tmp_path, ortho, output):
    mask_raster(DarkIsWater(64), ortho, output, settings=MapSettings(probability="float32"))
    mask_raster(
        DarkIsWater(512), ortho, tmp_path / "whole.tif", settings=MapSettings(probability="float32")
    )
    blended = values_of(output.with_suffix(".probability.tif"))
    whole = values_of(tmp_path / "whole.probability.tif")
    assert np.abs(blended - whole).max() < 0.05
    assert np.abs(blended - whole).mean() < 1e-3


@pytest.mark.parametrize("resolution", [None, 0.9])
def test_threads_that_read_and_write_change_no_byte(tmp_path, resolution):
    image = np.maximum(river(300, 400)[0], 1)
    image[:120, :130] = 0  # tiles that are skipped, and gaps in others
    image[200:, 300:] = 250
    ortho = write_raster(tmp_path / "in" / "ortho.tif", image, nodata=0)
    files = {}
    for overlapped in (False, True):
        target = tmp_path / str(overlapped) / "a.tif"
        settings = MapSettings(probability="float32", resolution=resolution, dihedral=True)
        mapped = mask_raster(
            DarkIsWater(fails=200), ortho, target, settings=settings, overlapped=overlapped
        )
        assert mapped.failed_tiles
        files[overlapped] = {path.name: path.read_bytes() for path in target.parent.iterdir()}
    assert files[True] == files[False]


def test_the_report_says_what_was_done(ortho, output):
    mapped = mask_raster(
        DarkIsWater(name="m 1"), ortho, output, settings=MapSettings(threshold=0.4)
    )
    report = json.loads(output.with_suffix(".json").read_text())
    assert report == mapped.report
    assert report["plan"]["model"] == "m 1"
    assert report["threshold"] == 0.4
    assert report["bands"] == [1, 2, 3]
    assert report["normalisation"]["source"] == "8 bits as they are stored"
    assert report["ground_resolution_m"]["raster"] == pytest.approx([0.5, 0.5], rel=1e-3)
    assert report["tiles"] == {"total": 48, "skipped": 0, "failed": []}  # 6 x 8, 48 apart
    assert report["pixels"]["water"] + report["pixels"]["land"] == 300 * 400
    with rasterio.open(output) as mask:
        assert mask.tags()["AUTOSAM_MODEL"] == "m 1"
        assert mask.tags()["AUTOSAM_THRESHOLD"] == "0.4"
    assert mapped.water_share == pytest.approx((values_of(output) == 1).mean())
    assert sorted(path.name for path in output.parent.iterdir()) == ["river.json", "river.tif"]


def test_what_is_finished_is_not_done_again(ortho, output):
    first = mask_raster(DarkIsWater(), ortho, output)
    model = DarkIsWater()
    again = mask_raster(model, ortho, output)
    assert (first.status, again.status) == ("written", "finished before")
    assert again.report == first.report
    assert model.shapes == []
    more = mask_raster(model, ortho, output, settings=MapSettings(probability="uint8"))
    assert more.status == "written"
    output.with_suffix(".probability.tif").unlink()
    assert (
        mask_raster(model, ortho, output, settings=MapSettings(probability="uint8")).status
        == "written"
    )


def test_a_raster_that_changed_is_masked_again(ortho, output):
    mask_raster(DarkIsWater(), ortho, output)
    write_raster(ortho, 255 - river(300, 400)[0])
    assert mask_raster(DarkIsWater(), ortho, output).status == "written"
    assert (values_of(output) == 1).mean() > 0.6


def test_another_models_mask_is_not_taken_for_ones_own(ortho, output):
    mask_raster(DarkIsWater(name="one"), ortho, output)
    with pytest.raises(OutputError, match=r"of one model, got .* by 'one' for 'two'"):
        mask_raster(DarkIsWater(name="two"), ortho, output)
    assert mask_raster(DarkIsWater(name="two"), ortho, output, overwrite=True).status == "written"


def test_a_file_that_is_not_ours_is_left_alone(ortho, output):
    output.parent.mkdir()
    output.write_bytes(b"somebody's work")
    with pytest.raises(OutputError, match="must be new or autosam's own"):
        mask_raster(DarkIsWater(), ortho, output)
    assert output.read_bytes() == b"somebody's work"


@pytest.mark.parametrize(
    ("name", "word"), [("river.png", "must end in .tif"), ("", "must end in .tif")]
)
def test_an_output_is_a_tiff(ortho, output, name, word):
    with pytest.raises(OutputError, match=word):
        mask_raster(DarkIsWater(), ortho, output.parent / name)


def test_a_mask_never_takes_the_place_of_its_raster(ortho):
    before = ortho.read_bytes()
    with pytest.raises(OutputError, match="got the raster itself"):
        mask_raster(DarkIsWater(), ortho, ortho, overwrite=True)
    assert ortho.read_bytes() == before


def test_a_tile_that_fails_is_a_hole_with_a_record(tmp_path, output):
    image, _ = river(200, 200)
    image[:64, :64] = 250  # neighbours have a quarter of it
    ortho = write_raster(tmp_path / "in.tif", image)
    model = DarkIsWater(64, fails=225)
    mapped = mask_raster(model, ortho, output, settings=MapSettings(probability="uint8"))
    failed = {"top": 0, "left": 0, "height": 64, "width": 64, "error": "this tile is too bright"}
    assert mapped.report["tiles"]["failed"] == [failed]
    assert mapped.failed_tiles == 1
    hole = np.zeros((200, 200), bool)
    hole[:64, :64] = True
    assert np.array_equal(values_of(output) == 255, hole)
    assert np.array_equal(values_of(output.with_suffix(".probability.tif")) == 255, hole)
    # It is tried again, for a mask with holes is not finished.
    assert mask_raster(DarkIsWater(64), ortho, output).failed_tiles == 0
    assert not (values_of(output) == 255).any()


def test_a_hole_that_reaches_into_the_next_strip_is_a_hole_there_too(tmp_path, output):
    image, _ = river(200, 200)
    image[96:112, 48:112] = 255  # brightest in the tile at row 96, column 48
    ortho = write_raster(tmp_path / "in.tif", image)
    mapped = mask_raster(DarkIsWater(64, fails=182), ortho, output)
    failed = mapped.report["tiles"]["failed"]
    assert failed
    hole = np.zeros((200, 200), bool)
    for tile in failed:
        hole[tile["top"] : tile["top"] + 64, tile["left"] : tile["left"] + 64] = True
    assert np.array_equal(values_of(output) == 255, hole)


def test_a_model_that_always_fails_leaves_nothing(ortho, output):
    with pytest.raises(
        ImageError, match=r"got 48 that failed .*The first: this tile is too bright"
    ):
        mask_raster(DarkIsWater(fails=0), ortho, output)
    assert list(output.parent.iterdir()) == []


def test_a_raster_cut_off_in_the_middle_loses_only_what_is_not_there(tmp_path, output):
    image, water = river(512, 256)
    whole = write_raster(tmp_path / "whole.tif", image)
    rasterio.shutil.copy(
        str(whole), str(tmp_path / "cog.tif"), driver="COG", blocksize=128, compress="NONE"
    )
    content = (tmp_path / "cog.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) * 3 // 4])
    mapped = mask_raster(DarkIsWater(64), tmp_path / "cut.tif", output)
    values = values_of(output)
    assert mapped.failed_tiles > 0
    assert all("cut.tif" in tile["error"] for tile in mapped.report["tiles"]["failed"])
    assert (values[:240] != 255).all()  # what reads beyond row 256 is lost
    assert (values[-64:] == 255).all()
    seen = values != 255
    assert ((values == 1) != water)[seen].mean() < 0.02


def test_two_runs_on_one_output_are_an_error(ortho, output):
    with open_journal(output, {}), pytest.raises(OutputError, match="got a second"):
        mask_raster(DarkIsWater(), ortho, output)


def test_a_raster_without_any_data_is_all_nodata(tmp_path, output):
    ortho = write_raster(tmp_path / "in.tif", np.zeros((100, 90, 3), np.uint8), nodata=0)
    model = DarkIsWater()
    mapped = mask_raster(model, ortho, output)
    assert (values_of(output) == 255).all()
    assert model.shapes == []
    assert mapped.water_share is None


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (65, 64), (3, 700)])
def test_any_size_is_masked(tmp_path, output, size):
    image = np.full((*size, 3), 30, np.uint8)
    mask_raster(DarkIsWater(), write_raster(tmp_path / "in.tif", image), output)
    assert np.array_equal(values_of(output), np.ones(size))


def test_all_eight_views_come_from_one_tile(ortho, output):
    model = DarkIsWater(64)
    settings = MapSettings(dihedral=True, probability="float32")
    mask_raster(model, ortho, output, settings=settings)
    assert len(model.shapes) == 8 * 48
    plain = output.with_name("plain.tif")
    mask_raster(DarkIsWater(64), ortho, plain, settings=MapSettings(probability="float32"))
    # This model says the same of a turned tile.
    np.testing.assert_allclose(
        values_of(output.with_suffix(".probability.tif")),
        values_of(plain.with_suffix(".probability.tif")),
        atol=1e-4,
    )


def test_unfinished_work_is_taken_up_strip_by_strip(ortho, output):
    mask_raster(DarkIsWater(), ortho, output)
    expected = output.read_bytes(), output.with_suffix(".json").read_bytes()

    class Stops(DarkIsWater):
        def __call__(self, tiles):
            if len(self.shapes) > 25:
                raise KeyboardInterrupt
            return super().__call__(tiles)

    other = output.with_name("other.tif")
    with pytest.raises(KeyboardInterrupt):
        mask_raster(Stops(), ortho, other)
    assert len(list(unfinished(other).glob("strip-*.json"))) == 3
    assert not other.exists()
    model = DarkIsWater()
    mapped = mask_raster(model, ortho, other)
    assert mapped.resumed
    assert (
        len(model.shapes) == 48 - 3 * 8 + 8
    )  # what is left, and the row of tiles that reaches into it
    assert (other.read_bytes(), other.with_suffix(".json").read_bytes()) == expected
    assert not unfinished(other).exists()


def test_a_report_never_says_finished_of_a_mask_that_could_not_be_placed(ortho, output):
    mask_raster(DarkIsWater(), ortho, output)

    class Meddler(DarkIsWater):
        def _one(self, tile):
            if output.is_file():  # while the raster is being masked
                output.unlink()
                output.mkdir()
            return super()._one(tile)

    with pytest.raises(OutputError, match="could not be written"):
        mask_raster(Meddler(), ortho, output, settings=MapSettings(threshold=0.3))
    assert not output.with_suffix(".json").exists()
    output.rmdir()
    again = mask_raster(DarkIsWater(), ortho, output, settings=MapSettings(threshold=0.3))
    assert (again.status, again.resumed) == ("written", True)


def test_gaps_have_the_colour_that_says_nothing(tmp_path, output):
    image = np.maximum(river(64, 64)[0], 1)
    image[:, :30] = 0
    ortho = write_raster(tmp_path / "in.tif", image, nodata=0)

    class Looks(DarkIsWater):
        def _one(self, tile):
            self.seen = tile
            return super()._one(tile)

    model = Looks()
    mask_raster(model, ortho, output)
    assert (model.seen[:, :30] == PADDING_COLOUR).all()
    assert np.array_equal(model.seen[:, 30:], image[:, 30:])
