"""What the page asks for, and the words of every state."""

import io
import time

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from raster_scenes import HALF_METRE, UTM, river
from rio_cogeo.cogeo import cog_validate
from small_app import (
    OWN,
    THRESHOLD,
    levels_of,
    model_of,
    ortho_bytes,
    picture_bytes,
    post,
    upload,
)

from autosam.app.answers import LEVELS, MOST_CLICKS, NO_DATA, card_limits
from autosam.errors import ConfigError
from autosam.inference.tiles import mask_raster
from autosam.models.gauges import Gauges, Presence


def test_a_picture_is_masked_as_the_library_masks_it(client, tiny_model):
    image = river(60, 80)[0]
    state = upload(client, picture_bytes(image), "my river.png").json()
    assert (state["name"], state["size"], state["screen"]) == ("my river.png", [60, 80], [60, 80])
    expected = tiny_model.predict(image)
    found = levels_of(client, state)
    assert expected.probability.std() > 1e-3  # not a constant, which anything would equal
    np.testing.assert_allclose(found / LEVELS, expected.probability, atol=1e-4)
    shown = Image.open(io.BytesIO(client.get(f"/api/pictures/{state['id']}/screen.png").content))
    assert np.array_equal(np.asarray(shown), image)


def test_a_click_is_the_librarys_correction_and_undo_takes_it_back(client, tiny_model):
    image = river(60, 80)[0]
    state = upload(client, picture_bytes(image)).json()
    path = f"/api/pictures/{state['id']}"
    own = levels_of(client, state)
    first = tiny_model.predict(image)
    second = tiny_model.predict(image, points=[(10, 20)], labels=[1], previous=first)
    third = tiny_model.predict(image, points=[(10, 20), (70, 5)], labels=[1, 0], previous=second)
    for click, expected in (((10, 20, 1), second), ((70, 5, 0), third)):
        state = post(client, f"{path}/clicks", x=click[0], y=click[1], label=click[2]).json()
        np.testing.assert_allclose(
            levels_of(client, state) / LEVELS, expected.probability, atol=1e-3
        )
    assert state["clicks"] == [[10, 20, 1], [70, 5, 0]]
    kept = [third.mask[20, 10], not third.mask[5, 70]]
    told = [line["text"] for line in state["said"] if "not followed" in line["text"]]
    assert [text.split(" of ")[0] for text in told] == [str(kept.count(False))] * (not all(kept))
    assert np.abs(third.probability - first.probability).max() > 0.01
    assert post(client, f"{path}/undo").json()["clicks"] == [[10, 20, 1]]
    assert post(client, f"{path}/reset").json()["clicks"] == []
    assert np.array_equal(levels_of(client, state), own)
    assert post(client, f"{path}/undo").status_code == 200  # nothing is left to take back


@pytest.mark.parametrize(
    ("click", "word"),
    [
        ({"x": 80, "y": 5, "label": 1}, "must lie in the picture"),
        ({"x": 5, "y": -3, "label": 1}, "must lie in the picture"),
        ({"x": 5, "y": 5, "label": 2}, "label must be 1"),
        ({"x": "5", "y": 5, "label": 1}, "must have numbers"),
        ({"x": 5, "y": 5, "label": True}, "must have numbers"),
        ({"x": 5, "label": 1}, "must have numbers"),
    ],
)
def test_a_click_that_cannot_be_used_is_refused_in_words(client, click, word):
    state = upload(client, picture_bytes(river(60, 80)[0])).json()
    answer = post(client, f"/api/pictures/{state['id']}/clicks", **click)
    assert (answer.status_code, word in answer.json()["error"]) == (400, True)
    for content in (b"[]", b"{", b'{"x": NaN, "y": 1, "label": 1}', b"\xff"):
        path = f"/api/pictures/{state['id']}/clicks"
        assert client.post(path, content=content, headers=OWN).status_code == 400
    long = client.post(path, content=b" " * 20_000, headers=OWN)
    assert long.status_code == 413


HUGE = "9" * 400


@pytest.mark.parametrize(
    ("what", "content", "word"),
    [
        ("clicks", f'{{"x": {HUGE}, "y": 1, "label": 1}}', "must have numbers"),
        ("clicks", f'{{"x": 1, "y": -{HUGE}, "label": 1}}', "must have numbers"),
        ("clicks", f'{{"x": 1, "y": 1, "label": {HUGE}}}', "label must be 1"),
        ("clicks", '{"x": 1e999, "y": 1, "label": 1}', "must have numbers"),
        ("clicks", "[" * 5000, "must be a JSON object"),
        ("clicks", '{"x": ' + "[" * 900 + "]" * 900 + "}", "must be a JSON object"),
        ("detail", f'{{"threshold": {HUGE}}}', "must lie between 0 and 1"),
        ("detail", '{"threshold": ' + "[" * 900 + "]" * 900 + "}", "must be a JSON object"),
        ("detail", "[]", "must be a JSON object"),
    ],
)
def test_numbers_and_depths_that_python_cannot_hold_are_refused_in_words(
    client, what, content, word
):
    state = upload(client, picture_bytes(river(20, 30)[0])).json()
    answer = client.post(f"/api/pictures/{state['id']}/{what}", content=content, headers=OWN)
    error = answer.json()["error"]
    assert (answer.status_code, word in error) == (400, True)
    assert len(error) < 200


def test_a_length_that_is_no_number_does_no_harm(client):
    for length, status in (("²", 201), ("9" * 5000, 413)):
        headers = {**OWN, "content-length": length.encode("latin-1")}
        answer = client.post(
            "/api/pictures", content=picture_bytes(river(20, 30)[0]), headers=headers
        )
        assert answer.status_code == status


def test_a_method_that_an_address_does_not_take_is_said(client):
    for method, path, allowed in (("PUT", "/api/pictures", "POST"), ("POST", "/", "GET or HEAD")):
        answer = client.request(method, path, headers=OWN)
        assert (answer.status_code, answer.headers["allow"].split(", ")[0] in allowed) == (
            405,
            True,
        )
        expected = f"request must be {allowed} at this address, got {method}. Reload the page."
        assert answer.json()["error"] == expected


def test_a_picture_without_any_data_is_said_to_have_none(client, tmp_path):
    nothing = ortho_bytes(tmp_path, np.zeros((60, 80, 3), np.uint8), nodata=0)
    clear = picture_bytes(np.zeros((60, 80, 4), np.uint8))
    for content in (nothing, clear):
        state = upload(client, content, "empty.tif").json()
        assert state["said"] == [
            {"kind": "warning", "text": "No data: the file marks every pixel as empty."}
        ]


def test_what_the_command_line_could_do_is_not_advised_to_a_page(client, tmp_path):
    kinds = {
        "complex64": (np.complex64(1 + 1j), "real numbers", "Choose other bands"),
        "float32": (np.float32("nan"), "hold data to be scaled", "or give the value range."),
    }
    for dtype, (value, got, advice) in kinds.items():
        place = {"crs": UTM, "transform": HALF_METRE}
        shape = {"width": 30, "height": 20, "count": 3, "dtype": dtype}
        with rasterio.open(tmp_path / "odd.tif", "w", driver="GTiff", **shape, **place) as raster:
            raster.write(np.full((3, 20, 30), value))
        answer = upload(client, (tmp_path / "odd.tif").read_bytes(), "odd.tif")
        error = answer.json()["error"]
        assert (answer.status_code, got in error, advice in error) == (400, True, False)
        assert error.endswith("with: autosam map.")


def test_clicks_are_bounded_in_number(client):
    state = upload(client, picture_bytes(river(20, 30)[0])).json()
    path = f"/api/pictures/{state['id']}/clicks"
    codes = [post(client, path, x=1, y=1, label=1).status_code for _ in range(MOST_CLICKS + 1)]
    assert codes == [200] * MOST_CLICKS + [400]


def test_what_the_model_says_of_itself_is_said_in_words(client, asking, tiny_sam_folder):
    state = upload(client, picture_bytes(river(60, 80)[0])).json()
    texts = {line["text"]: line["kind"] for line in state["said"]}
    assert texts["River likely: presence 0.88."] == "good"  # 1 / (1 + exp(-2))
    warning = next(text for text, kind in texts.items() if kind == "warning")
    assert warning.startswith("Unlike the training pictures (distance 5.")
    unlikely = Gauges(presence=Presence(scale=0.0, shift=-3.5))
    other = asking(model_of(tiny_sam_folder, gauges=unlikely))
    state = upload(other, picture_bytes(river(60, 80)[0])).json()
    assert state["said"] == [{"kind": "warning", "text": "Perhaps no river here: presence 0.03."}]
    silent = asking(model_of(tiny_sam_folder))
    state = upload(silent, picture_bytes(river(60, 80)[0])).json()
    assert state["said"][0]["text"].startswith("This model does not say")


def test_a_model_without_a_sam_says_that_it_takes_no_clicks(asking, tiny_sam_folder):
    client = asking(model_of(tiny_sam_folder, method="unet"))
    assert client.get("/api/model").json()["takes_clicks"] is False
    state = upload(client, picture_bytes(river(60, 80)[0])).json()
    answer = post(client, f"/api/pictures/{state['id']}/clicks", x=1, y=1, label=1)
    assert answer.status_code == 400
    assert "must have a SAM" in answer.json()["error"]


def test_a_model_that_reads_more_than_colours_is_refused_at_the_start(asking, tiny_sam_folder):
    model = model_of(
        tiny_sam_folder, prompt={"network": "hardnet39ds", "side": 32, "bands": ["nir"]}
    )
    with pytest.raises(ConfigError, match="nothing but red, green and blue for the app, got nir"):
        asking(model)


def test_the_cards_limits_are_told_word_for_word(tmp_path):
    (tmp_path / "README.md").write_text(
        "# a\n\n## Limits\n\n- It follows no clicks\n  at all.\n- Small.\n\n## Data\n\n- other\n"
    )
    assert card_limits(str(tmp_path)) == ["It follows no clicks at all.", "Small."]
    assert card_limits(str(tmp_path / "absent")) == []
    assert len(card_limits("river-nano")) > 2


def test_pixels_without_data_are_marked_and_stay_so_in_every_download(client, tmp_path):
    image, gap = np.maximum(river(60, 80)[0], 1), np.zeros((60, 80), bool)
    gap[:, :30] = True
    image[gap] = 0
    state = upload(client, ortho_bytes(tmp_path, image, nodata=0), "a.tif").json()
    levels = levels_of(client, state)
    assert np.array_equal(levels == NO_DATA, gap)
    files = f"/api/pictures/{state['id']}/files"
    png = Image.open(io.BytesIO(client.get(f"{files}/mask.png?threshold=0.001").content))
    assert np.array_equal(np.asarray(png)[..., 1] == 0, gap)
    with rasterio.MemoryFile(client.get(f"{files}/mask.tif").content) as file, file.open() as mask:
        assert np.array_equal(mask.read(1) == 255, gap)


def test_a_png_is_given_of_a_raster_whose_place_is_wrong(client, tmp_path):
    content = ortho_bytes(
        tmp_path, river(60, 80)[0], crs="EPSG:4326"
    )  # its numbers are metres of UTM
    files = f"/api/pictures/{upload(client, content, 'a.tif').json()['id']}/files"
    assert client.get(f"{files}/mask.png").status_code == 200
    answer = client.get(f"{files}/water.gpkg")
    assert answer.status_code == 400
    assert "must lie on the earth" in answer.text
    assert "(a.tif)" in answer.text


def test_downloads_hold_what_is_on_the_screen_at_its_threshold(client, tmp_path):
    image = river(60, 80)[0]
    state = upload(client, ortho_bytes(tmp_path, image), "wet.tif").json()
    assert state["has_georeference"]
    assert state["place"] == "WGS 84 / UTM zone 10N, 0.5 m a pixel"
    level = float(np.median(levels_of(client, state))) / LEVELS
    water = levels_of(client, state) >= level * LEVELS
    files = f"/api/pictures/{state['id']}/files"
    answer = client.get(f"{files}/mask.png", params={"threshold": level})
    assert 'filename="wet-mask.png"' in answer.headers["content-disposition"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))) > 0, water)
    (tmp_path / "m.tif").write_bytes(
        client.get(f"{files}/mask.tif", params={"threshold": level}).content
    )
    assert cog_validate(str(tmp_path / "m.tif"))[0]
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert (mask.crs.to_string(), mask.transform) == (UTM, HALF_METRE)
        assert np.array_equal(mask.read(1), water.astype(np.uint8))
    (tmp_path / "w.gpkg").write_bytes(
        client.get(f"{files}/water.gpkg", params={"threshold": level}).content
    )
    polygons = geopandas.read_file(tmp_path / "w.gpkg")
    assert polygons.crs.to_string() == UTM
    assert polygons["area_m2"].sum() == pytest.approx(water.sum() / 4, rel=0.2)


def test_a_large_raster_is_shrunk_for_the_screen_and_masked_whole_for_keeps(client, tmp_path):
    image = river(900, 2000)[0]
    state = upload(client, ortho_bytes(tmp_path, image), "big.tif").json()
    assert (state["size"], state["screen"]) == ([900, 2000], [450, 1000])
    assert state["is_shrunk"]
    assert state["more_by_tiles"]
    with (
        rasterio.MemoryFile(
            client.get(f"/api/pictures/{state['id']}/files/mask.tif").content
        ) as file,
        file.open() as mask,
    ):
        assert mask.shape == (900, 2000)
        drawn = mask.read(1)
    seen = levels_of(client, state) >= THRESHOLD * LEVELS
    assert (drawn[::2, ::2] == seen).mean() > 0.98


def test_the_mask_by_tiles_is_the_one_of_autosam_map(client, tiny_model, tmp_path):
    image = river(150, 200)[0]
    content = ortho_bytes(tmp_path, image)
    state = upload(client, content, "a.tif").json()
    path = f"/api/pictures/{state['id']}"
    early = client.get(f"{path}/files/mask.tif?of=tiles")
    assert early.status_code == 409
    answer = post(client, f"{path}/detail", threshold=THRESHOLD)
    assert answer.status_code == 202
    deadline = time.monotonic() + 60
    while (detail := client.get(path).json()["detail"])["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (detail["state"], detail["tiles_done"]) == ("done", detail["tiles"])
    (tmp_path / "here.tif").write_bytes(content)
    mask_raster(tiny_model, tmp_path / "here.tif", tmp_path / "expected.tif")
    with (
        rasterio.MemoryFile(client.get(f"{path}/files/mask.tif?of=tiles").content) as file,
        file.open() as found,
        rasterio.open(tmp_path / "expected.tif") as expected,
    ):
        assert np.array_equal(found.read(1), expected.read(1))
    png = client.get(f"{path}/files/mask.png?of=tiles")
    assert Image.open(io.BytesIO(png.content)).size == (200, 150)


def test_a_turned_photo_is_masked_upright_by_tiles_too(client, tmp_path):
    image = river(100, 150)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter
    state = upload(client, picture_bytes(image, "JPEG", exif=exif, quality=95), "a.jpg").json()
    assert state["size"] == [150, 100]
    path = f"/api/pictures/{state['id']}"
    post(client, f"{path}/detail", threshold=THRESHOLD)
    deadline = time.monotonic() + 60
    while client.get(path).json()["detail"]["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    png = client.get(f"{path}/files/mask.png?of=tiles")
    assert Image.open(io.BytesIO(png.content)).size == (100, 150)


def test_a_missing_georeference_is_said_and_gives_no_geotiff(client):
    state = upload(client, picture_bytes(river(60, 80)[0])).json()
    assert not state["has_georeference"]
    assert state["place"].startswith("No georeference in this file")
    answer = client.get(f"/api/pictures/{state['id']}/files/mask.tif")
    assert answer.status_code == 400
    assert "GeoTIFF must be of a picture with a georeference" in answer.json()["error"]


@pytest.mark.parametrize("threshold", ["0", "1", "nan", "x", "-3", "inf"])
def test_a_threshold_must_lie_between_0_and_1(client, threshold):
    state = upload(client, picture_bytes(river(60, 80)[0])).json()
    path = f"/api/pictures/{state['id']}"
    answer = client.get(f"{path}/files/mask.png", params={"threshold": threshold})
    assert answer.status_code == 400
    assert "threshold must lie between 0 and 1" in answer.json()["error"]
    assert post(client, f"{path}/detail", threshold=threshold).status_code == 400


def test_the_example_is_a_drawn_river(client):
    state = post(client, "/api/example").json()
    assert state["name"] == "drawn river.png"
    assert state["size"] == [640, 960]
