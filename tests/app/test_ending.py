"""Masks by tiles that are cut off: by the end of the app, or by the end of their picture."""

import asyncio
import threading
import time

import pytest
from raster_scenes import river
from small_app import THRESHOLD, ortho_bytes, picture_bytes, post, upload
from starlette.testclient import TestClient

from autosam.app import endpoints
from autosam.app.guard import Guard
from autosam.app.server import build_app
from autosam.inference.tiles import as_tile_model

PLANNED = 2
"""Calls of the model before the first tile: the plan looks twice how long one takes."""
A_ROW = 4
"""Tiles along the pictures here; after the last of a row it is written, whoever closed the picture."""


class HaltingTiles:
    """Stays inside its call of this number (from 1) for a while."""

    def __init__(self, model, halt):
        self._model = model
        self._halt = halt
        self.identity, self.side, self.batch = model.identity, model.side, model.batch
        self.threshold, self.ground_resolution = model.threshold, model.ground_resolution
        self.begun = self.ended = 0
        self.inside = threading.Event()

    def __call__(self, tiles):
        self.begun += 1
        if self.begun == self._halt:
            self.inside.set()
            time.sleep(0.5)
        found = self._model(tiles)
        self.ended += 1
        return found


@pytest.fixture
def halting(monkeypatch):
    """Lets the app's tile model halt in a call, and remembers what threads raised to nobody."""
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def halted(call):
        made = []

        def halting_model(model):
            made.append(HaltingTiles(as_tile_model(model), call))
            return made[-1]

        monkeypatch.setattr(endpoints, "as_tile_model", halting_model)
        return made, raised

    return halted


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "autosam-detail"]


@pytest.mark.parametrize("call", [1, PLANNED + 1])
def test_the_app_ends_after_the_tile_that_is_being_masked(tiny_model, tmp_path, halting, call):
    made, raised = halting(call)
    folder = tmp_path / "uploads"
    folder.mkdir()
    app = build_app(tiny_model, folder, source="tiny")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        state = upload(client, ortho_bytes(tmp_path, river(150, 200)[0])).json()
        post(client, f"/api/pictures/{state['id']}/detail", threshold=THRESHOLD)
        assert made[0].inside.wait(60)
        assert not any(thread.daemon for thread in threads())  # Python would end under it
    assert threads() == []
    assert (made[0].begun, made[0].ended) == (call, call)
    assert raised == []
    assert not folder.exists()


@pytest.mark.parametrize("call", [1, PLANNED + 1, PLANNED + A_ROW])
def test_a_picture_that_is_closed_takes_its_mask_by_tiles_with_it(
    asking, tiny_model, tmp_path, halting, call
):
    made, raised = halting(call)
    client = asking(tiny_model)
    state = upload(client, ortho_bytes(tmp_path, river(150, 200)[0])).json()
    path = f"/api/pictures/{state['id']}"
    post(client, f"{path}/detail", threshold=THRESHOLD)
    assert made[0].inside.wait(60)
    assert post(client, f"{path}/close").status_code == 200
    for thread in threads():
        thread.join(60)
    assert made[0].begun == call
    assert raised == []
    assert not list(client.uploads.iterdir())


def test_a_picture_that_closes_while_a_file_of_it_is_written_is_said_to_be_closed(
    client, monkeypatch
):
    state = upload(client, picture_bytes(river(20, 30)[0])).json()
    path = f"/api/pictures/{state['id']}"
    original = endpoints.make_download

    def closing(*arguments, **options):
        assert post(client, f"{path}/close").status_code == 200
        return original(*arguments, **options)

    monkeypatch.setattr(endpoints, "make_download", closing)
    answer = client.get(f"{path}/files/mask.png")
    assert answer.status_code == 404
    assert "picture must still be open" in answer.json()["error"]
    assert not list(client.uploads.iterdir())


def test_a_request_that_the_end_of_the_server_cuts_off_is_answered_in_words():
    sent = []

    async def never(scope, receive, send):
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    async def story():
        scope = {"type": "http", "method": "GET", "headers": [(b"host", b"127.0.0.1")]}
        asking = asyncio.create_task(Guard(never, host="127.0.0.1")(scope, None, send))
        await asyncio.sleep(0)
        asking.cancel()
        await asking

    asyncio.run(story())
    assert sent[0]["status"] == 503
    assert b"before the app ends" in sent[1]["body"]
