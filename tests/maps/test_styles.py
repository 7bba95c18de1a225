from xml.etree import ElementTree

import pytest

from autosam.errors import ConfigError, OutputError
from autosam.maps.styles import write_style


def renderer(path):
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert root.tag == "qgis"
    return root.find("pipe/rasterrenderer")


def test_a_mask_is_blue_where_water_is_and_transparent_on_land(tmp_path):
    path = write_style(tmp_path / "river.tif", of="mask")
    found = renderer(path)
    assert path == tmp_path / "river.qml"
    assert (found.get("type"), found.get("band")) == ("paletted", "1")
    entries = {entry.get("value"): entry for entry in found.iter("paletteEntry")}
    assert entries["0"].get("alpha") == "0"
    assert entries["1"].get("color") == "#0072b2"
    assert int(entries["1"].get("alpha")) > 100
    assert "255" not in entries  # no data: QGIS would list it as water


def test_255_is_water_too_where_a_mask_knows_no_nodata(tmp_path):
    found = renderer(write_style(tmp_path / "river.tif", of="picture"))
    entries = {entry.get("value"): entry for entry in found.iter("paletteEntry")}
    assert entries["1"].get("color") == entries["255"].get("color") == "#0072b2"


@pytest.mark.parametrize(
    ("kind", "top"), [("probability-uint8", "254"), ("probability-float", "1")]
)
def test_a_probability_goes_from_transparent_to_dark_over_its_whole_range(tmp_path, kind, top):
    found = renderer(write_style(tmp_path / "p.tif", of=kind))
    items = list(found.iter("item"))
    values = [float(item.get("value")) for item in items]
    opacity = [int(item.get("alpha")) for item in items]
    assert found.get("type") == "singlebandpseudocolor"
    assert found.get("classificationMax") == top
    assert (values[0], values[-1], values) == (0, float(top), sorted(values))
    assert (opacity[0], opacity[-1], opacity) == (0, 255, sorted(opacity))
    assert [item.get("label") for item in items] == ["0%", "25%", "50%", "100%"]


def test_an_unknown_kind_and_a_closed_place_are_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match=r"got 'masks'\. Did you mean 'mask'"):
        write_style(tmp_path / "p.tif", of="masks")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be written"):
        write_style(tmp_path / "file" / "p.tif", of="mask")
