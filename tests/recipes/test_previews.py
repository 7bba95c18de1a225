"""What `--html`, `--preview` and `--sheet` leave behind."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from raster_scenes import DarkIsWater, river, write_raster

from autosam.cli import run
from autosam.config import config_from_dict
from autosam.errors import DataError, MissingPathError, OutputError
from autosam.inference.segmenter import AutoSam
from autosam.inference.tiles import mask_raster
from autosam.recipes.map_pages import draw_page, masked_picture
from autosam.recipes.previews import save_raster_preview, save_sheet


@pytest.fixture
def masked(tmp_path):
    """A raster and the mask that was made of it."""
    ortho = write_raster(tmp_path / "in" / "a.tif", river(100, 150)[0])
    mask_raster(DarkIsWater(), ortho, tmp_path / "out" / "a.tif")
    return ortho, tmp_path / "out" / "a.tif"


def saved_model(folder, sam_folder):
    settings = {
        "sam": {"name": str(sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
    }
    return AutoSam(config_from_dict(settings), device="cpu").save_pretrained(folder)


def data_of(page):
    return json.loads(re.search(r"^const data = (.*);$", page.read_text(), re.M)[1])


def test_a_page_finds_the_picture_that_the_report_names(masked, tmp_path):
    ortho, mask = masked
    assert masked_picture(mask)[0] == str(ortho)
    said = []
    page = draw_page(mask, tmp_path / "a.html", say=said.append)
    assert data_of(page)["picture"].startswith("data:image/jpeg;base64,")
    assert said == [f"{page}: a map to open in a browser"]
    assert "model dark" in page.read_text()


def test_a_page_finds_the_picture_from_anywhere_and_when_both_have_moved(
    masked, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    for name in ("in", "out"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    monkeypatch.chdir(tmp_path / "elsewhere" / "out")
    page = draw_page("a.tif", tmp_path / "a.html", say=print)
    assert data_of(page)["picture"] is not None


def test_a_picture_that_is_gone_is_a_note_and_one_that_is_named_wrongly_an_error(masked, tmp_path):
    ortho, mask = masked
    other = write_raster(tmp_path / "other.tif", river(50, 50)[0])
    with pytest.raises(DataError, match="height and width"):
        draw_page(mask, tmp_path / "a.html", picture=other)
    ortho.unlink()
    said = []
    page = draw_page(mask, tmp_path / "a.html", say=said.append)
    assert data_of(page)["picture"] is None
    assert said[0].startswith("note: the page is without its picture: raster must exist")


def test_commands_write_pages_beside_what_they_make(masked, tmp_path, capsys):
    _, mask = masked
    polygons = tmp_path / "w.gpkg"
    arguments = ["--minimum-area", "1", "--html"]
    assert run(["vectors", str(mask), "-o", str(polygons), *arguments]) == 0
    assert [layer["name"] for layer in data_of(tmp_path / "w.html")["layers"]] == ["water"]
    assert run(["river", str(mask), "-o", str(tmp_path / "r"), *arguments]) == 0
    names = {layer["name"] for layer in data_of(tmp_path / "r" / "a.html")["layers"]}
    assert names >= {"water", "centreline", "sections"}


def test_a_preview_shows_the_water_on_the_shrunk_raster(masked):
    _, mask = masked
    path = save_raster_preview(mask)
    assert path.name == "a.preview.jpg"
    shown = np.asarray(Image.open(path)).astype(int)
    image, water = river(100, 150)
    assert shown.shape == image.shape
    blue = shown[..., 2] - shown[..., 0]
    inner = np.roll(water, 3, axis=0) & np.roll(water, -3, axis=0) & water
    assert blue[inner].mean() > blue[~water].mean() + 30
    mask.with_suffix(".json").unlink()
    with pytest.raises(MissingPathError, match="must have its report"):
        save_raster_preview(mask)


def test_a_sheet_shows_pictures_and_rasters_and_says_what_it_lacks(masked, tmp_path):
    ortho, mask = masked
    image, water = river(60, 90)
    Image.fromarray(image).save(tmp_path / "b.png")
    Image.fromarray(water.astype(np.uint8) * 255).save(tmp_path / "b-mask.png")
    said = []
    pairs = [(ortho, mask), (tmp_path / "b.png", tmp_path / "b-mask.png"), (tmp_path / "c", mask)]
    path = save_sheet(tmp_path / "sheet.png", pairs, say=said.append)
    assert said[0].startswith("note: not on the sheet: raster must exist")
    assert said[1] == f"{path}: 2 masks on their pictures"
    assert Image.open(path).width > 150 + 90
    assert save_sheet(tmp_path / "none.png", pairs[2:], say=said.append) is None
    with pytest.raises(OutputError, match=r"must end in \.png"):
        save_sheet(tmp_path / "sheet.txt", pairs)


def test_predict_draws_a_sheet_of_its_folder(tmp_path, tiny_sam_folder, capsys):
    folder = saved_model(tmp_path / "run", tiny_sam_folder)
    (tmp_path / "p").mkdir()
    for name in "ab":
        Image.fromarray(river(40, 60)[0]).save(tmp_path / "p" / f"{name}.png")
    arguments = ["predict", str(tmp_path / "p"), "-m", str(folder), "-o", str(tmp_path / "m")]
    assert run([*arguments, "--sheet", str(tmp_path / "sheet.jpg")]) == 0
    assert "2 masks on their pictures" in capsys.readouterr().err
    assert Image.open(tmp_path / "sheet.jpg").width > 120
    assert run([*arguments, "--sheet", str(tmp_path / "sheet.doc")]) == 2


def test_map_writes_page_preview_and_sheet(tmp_path, tiny_sam_folder, capsys):
    folder = saved_model(tmp_path / "run", tiny_sam_folder)
    for name in "ab":
        write_raster(tmp_path / "in" / f"{name}.tif", river(70, 90)[0])
    arguments = ["map", str(tmp_path / "in"), "-m", str(folder), "-o", str(tmp_path / "out")]
    sheet = ["--sheet", str(tmp_path / "sheet.png")]
    assert run([*arguments, "--vector", "gpkg", "--html", "--preview", *sheet]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"a.html", "a.preview.jpg", "b.html", "b.preview.jpg"}
    assert (tmp_path / "sheet.png").is_file()
    assert data_of(tmp_path / "out" / "a.html")["picture"] is not None
