import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from autosam.errors import OutputError
from autosam.plotting import save_curves, save_histogram, save_reliability


def pixels(path, colour):
    """How many pixels of a picture have this colour."""
    return int((np.array(Image.open(path).convert("RGB")) == colour).all(axis=2).sum())


BLUE, ORANGE = (0, 114, 178), (230, 159, 0)


def row(low, high, count, predicted, observed):
    return {
        "low": low, "high": high, "count": count, "predicted": predicted, "observed": observed,
    }  # fmt: skip


def test_each_line_of_the_curves_is_drawn_in_its_colour(tmp_path):
    lines = {"training": [(1, 1.0), (2, 0.5)], "validation": [(1, 1.1), (2, 0.9)]}
    path = save_curves(tmp_path / "curves.png", {"loss": lines})
    assert pixels(path, BLUE) > 200
    assert pixels(path, ORANGE) > 200


def test_each_quantity_has_its_own_panel(tmp_path):
    line = {"training": [(1, 1.0), (2, 0.5)]}
    one = save_curves(tmp_path / "one.png", {"loss": line})
    three = save_curves(tmp_path / "three.png", {"loss": line, "IoU": line, "rate": line})
    assert Image.open(three).height > 2 * Image.open(one).height


@pytest.mark.parametrize(
    "panels", [{}, {"loss": {}}, {"loss": {"training": []}}, {"loss": {"training": [(1, np.nan)]}}]
)
def test_curves_with_nothing_to_show_are_still_a_picture(tmp_path, panels):
    path = save_curves(tmp_path / "curves.png", panels)
    assert Image.open(path).format == "PNG"


def test_bars_of_the_histogram_grow_with_the_values_they_count(tmp_path):
    even = save_histogram(tmp_path / "a.png", np.linspace(0.02, 0.98, 40).tolist(), label="IoU")
    single = save_histogram(tmp_path / "b.png", [0.5] * 40, label="IoU")
    assert pixels(even, BLUE) > 10 * pixels(single, BLUE) > 0


def test_a_value_at_the_upper_end_is_counted(tmp_path):
    assert pixels(save_histogram(tmp_path / "a.png", [1.0], label="IoU"), BLUE) > 1000


def test_a_histogram_of_nothing_says_so(tmp_path):
    path = save_histogram(tmp_path / "a.png", [], label="IoU")
    assert pixels(path, BLUE) == 0
    assert pixels(path, (128, 128, 128)) > 10


def test_reliability_leaves_out_parts_without_pixels(tmp_path):
    table = [row(0, 0.5, 10, 0.2, 0.1), row(0.5, 1, 0, None, None)]
    path = save_reliability(tmp_path / "a.png", table, error=0.1)
    full = save_reliability(tmp_path / "b.png", [table[0], row(0.5, 1, 10, 0.8, 0.9)], error=0.1)
    assert 0 < pixels(path, BLUE) < pixels(full, BLUE)


def test_reliability_of_nothing_is_still_a_picture(tmp_path):
    path = save_reliability(tmp_path / "a.png", [row(0, 1, 0, None, None)], error=None)
    assert pixels(path, BLUE) == 0


def test_a_plot_that_cannot_be_written_is_an_output_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="could not be written"):
        save_histogram(tmp_path / "file" / "a.png", [0.5], label="IoU")
    assert os.listdir(tmp_path) == ["file"]


def test_neither_importing_nor_plotting_touches_pyplot(tmp_path):
    code = (
        "import sys, autosam.drawing as d\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"d.save_histogram({str(tmp_path / 'a.png')!r}, [0.5], label='IoU')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
