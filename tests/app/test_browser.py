"""The page in a real browser: from a dropped file to files on the disk.

Needs a chromium of the system (for instance ``apt-get install chromium``); skipped, saying so, where none is.
"""

import contextlib
import shutil
import threading
import time

import geopandas
import numpy as np
import pytest
import rasterio
import uvicorn
from PIL import Image
from raster_scenes import HALF_METRE, UTM, river, write_raster

from autosam.app.answers import LEVELS
from autosam.app.server import build_app

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (path := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed on this system")
PATIENCE = 60.0
DROP = """() => new Promise((done) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 40;
    canvas.toBlob((blob) => {
        const held = new DataTransfer();
        held.items.add(new File([blob], "late.png", { type: "image/png" }));
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: held, cancelable: true }));
        done(null);
    });
})"""
"""A picture dropped on the page."""


@pytest.fixture
def address(tiny_model, tmp_path):
    """Of an app that runs in a thread."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    app = build_app(tiny_model, folder, source="tiny")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(PATIENCE)
    assert not folder.exists()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        with contextlib.closing(browser):
            yield browser


def wait_until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


class Page:
    """A page, and what went wrong in it."""

    def __init__(self, browser, address, **options):
        self.page = browser.new_page(**options)
        self.problems, self.requests = [], []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda line: self.problems.append(line.text) if line.type == "error" else None,
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.until("!busy && model !== null")

    def until(self, condition):
        wait_until(lambda: self.page.evaluate(condition))

    def upload(self, path):
        self.page.set_input_files("#file", path)
        self.until("!busy && (state !== null || !$('error').hidden) && !isPainting")

    def water(self):
        """(height, width) bool of what is painted as water, by its colour and its edge."""
        pixels = self.page.evaluate(
            """() => { const c = $('mask'); const d = c.getContext('2d')
                .getImageData(0, 0, c.width, c.height).data; return [c.height, c.width, Array.from(d)]; }"""
        )
        return np.array(pixels[2], np.uint8).reshape(pixels[0], pixels[1], 4)[..., 3] > 0

    def take(self, button, folder):
        with self.page.expect_download() as waiting:
            self.page.click(button)
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


def test_from_a_picture_to_files_in_a_real_browser(browser, address, tiny_model, tmp_path):
    image = river(120, 160)[0]
    ortho = write_raster(tmp_path / "ortho.tif", image)
    shown = Page(browser, address, viewport={"width": 1200, "height": 800})
    page = shown.page
    shown.upload(ortho)
    assert page.locator("#mask").is_visible()
    assert "presence 0.88" in page.inner_text("#said")
    expected = tiny_model.predict(image)
    page.uncheck("#outline")
    shown.until("!isPainting")
    # 16 bits of a probability may put a pixel on the threshold itself on its other side.
    assert np.count_nonzero(shown.water() != expected.mask) <= 3

    # The threshold: client side, and the words follow.
    requests = len(shown.requests)
    middle = round(float(np.quantile(expected.probability, 0.6)), 2)
    page.locator("#threshold").fill(str(middle))
    shown.until(f"!isPainting && $('threshold-out').textContent === '{middle:.2f}'")
    wanted = np.rint(expected.probability * LEVELS) >= middle * LEVELS
    assert 0 < wanted.mean() < 1
    assert np.array_equal(shown.water(), wanted)
    assert f"{100 * wanted.mean():.1f} %" in page.inner_text("#share")
    assert len(shown.requests) == requests

    # Files hold what is seen.
    png = shown.take("#get-png", tmp_path)
    assert np.array_equal(np.asarray(Image.open(png)) > 0, wanted)
    with rasterio.open(shown.take("#get-tif", tmp_path)) as mask:
        assert np.array_equal(mask.read(1) == 1, wanted)
        assert (mask.crs.to_string(), mask.transform) == (UTM, HALF_METRE)
        assert mask.tags()["AUTOSAM_THRESHOLD"] == str(middle)
    polygons = geopandas.read_file(shown.take("#get-gpkg", tmp_path))
    assert polygons.crs.to_string() == UTM
    assert polygons["area_m2"].sum() == pytest.approx(wanted.sum() / 4, rel=0.2)

    # A click on land with the mouse, one on water with the keyboard, and back.
    box = page.locator("#marks").bounding_box()
    at = {"x": box["width"] * (40.5 / 160), "y": box["height"] * (30.5 / 120)}
    page.click("#marks", position=at, button="right")
    shown.until("!busy && state.clicks.length === 1")
    (x, y, label) = page.evaluate("state.clicks[0]")
    assert (x, y, label) == (pytest.approx(40, abs=0.6), pytest.approx(30, abs=0.6), 0)
    corrected = tiny_model.predict(image, points=[(x, y)], labels=[0], previous=expected)
    shown.until("!isPainting")
    same = shown.water() == (corrected.probability >= middle)
    assert same.mean() > 0.999
    page.locator("#marks").focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    shown.until("!busy && state.clicks.length === 2")
    assert page.evaluate("state.clicks[1][2]") == 1
    page.keyboard.press("u")
    shown.until("!busy && state.clicks.length === 1")
    page.click("#reset")
    shown.until("!busy && state.clicks.length === 0 && !isPainting")
    assert np.array_equal(shown.water(), wanted)

    assert shown.problems == []
    assert all(url.startswith((address, "blob:")) for url in shown.requests)


def test_the_page_says_what_is_wrong_and_goes_on(browser, address, tmp_path):
    shown = Page(browser, address, viewport={"width": 400, "height": 800})
    (tmp_path / "notes.png").write_text("no picture")
    shown.upload(tmp_path / "notes.png")
    assert "must be PNG, JPEG or TIFF" in shown.page.inner_text("#error")
    (tmp_path / "empty.png").write_bytes(b"")
    shown.page.set_input_files("#file", tmp_path / "empty.png")
    shown.until("$('error-text').textContent.includes('0 bytes')")
    shown.page.click("#error-close")
    Image.fromarray(river(60, 80)[0]).save(tmp_path / "<img src=x onerror=alert(1)>.png")
    shown.upload(tmp_path / "<img src=x onerror=alert(1)>.png")
    assert shown.page.inner_text("#name") == "<img src=x onerror=alert(1)>.png"
    assert "No georeference" in shown.page.inner_text("#place")
    assert shown.page.is_disabled("#get-tif")
    shown.page.locator("#threshold").fill("0.99")
    shown.until("!isPainting && $('share').textContent === 'No water at a threshold of 0.99'")
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 400
    # What is dropped while the page is at work does not vanish without a word.
    before, requests = shown.page.evaluate("state.id"), len(shown.requests)
    shown.page.evaluate(
        "void working('Masking …', () => new Promise((done) => { window.done = done; }))"
    )
    shown.page.evaluate(DROP)
    assert shown.page.inner_text("#error-text").startswith("The app is still at work.")
    assert len(shown.requests) == requests
    shown.page.evaluate("window.done(null)")
    shown.until("!busy")
    shown.page.evaluate(DROP)
    shown.until(f"!busy && state.id !== '{before}' && !isPainting")
    assert shown.page.inner_text("#name") == "late.png"
    assert shown.page.is_hidden("#error")
    shown.page.reload()
    shown.until("!busy && state !== null")  # the picture is still there
    assert shown.problems == [
        "Failed to load resource: the server responded with a status of 415 (Unsupported Media Type)"
    ]
