"""Pictures on their way: they close nothing and nothing closes them, and too many are refused."""

import asyncio

import httpx2
import pytest
from raster_scenes import river
from small_app import OWN, picture_bytes

from autosam.app import uploads
from autosam.app.refusals import RefusedError
from autosam.app.server import build_app
from autosam.app.sessions import MOST_ARRIVING, MOST_SESSIONS, Sessions

PNG = picture_bytes(river(20, 30)[0])
PATIENCE = 60.0


@pytest.fixture
def talk(tiny_model, tmp_path):
    """Runs a story that is told to many at once; it is given a client."""

    def told(story):
        async def run():
            transport = httpx2.ASGITransport(build_app(tiny_model, tmp_path, source="tiny"))
            address = "http://127.0.0.1"
            async with httpx2.AsyncClient(
                transport=transport, base_url=address, headers=OWN
            ) as client:
                await asyncio.wait_for(story(client), PATIENCE)

        asyncio.run(run())

    return told


async def halting(go_on):
    yield PNG[:20]
    await go_on.wait()
    yield PNG[20:]


async def until_done(tasks, count):
    while sum(task.done() for task in tasks) < count:
        await asyncio.sleep(0.01)


def test_uploads_that_are_merely_open_close_no_picture_and_no_other(talk):
    async def story(client):
        masked = (await client.post("/api/pictures", content=PNG)).json()["id"]
        go_on = asyncio.Event()
        many = [
            asyncio.create_task(client.post("/api/pictures", content=halting(go_on)))
            for _ in range(MOST_SESSIONS + 1)
        ]
        await until_done(many, len(many) - MOST_ARRIVING)
        assert [task.done() for task in many[:MOST_ARRIVING]] == [False] * MOST_ARRIVING
        for refused in many[MOST_ARRIVING:]:
            assert refused.result().status_code == 503
            assert "must arrive at most 4 at a time" in refused.result().json()["error"]
        assert (await client.post("/api/example")).status_code == 503
        go_on.set()
        ended = await asyncio.gather(*many[:MOST_ARRIVING])
        assert [answer.status_code for answer in ended] == [201] * MOST_ARRIVING
        assert (await client.get(f"/api/pictures/{masked}")).status_code == 200
        assert (await client.post("/api/pictures", content=PNG)).status_code == 201

    talk(story)


def test_an_upload_that_stands_still_is_ended_and_makes_room(talk, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "LONGEST_SILENCE", 0.05)

    async def story(client):
        never = asyncio.Event()
        for _ in range(2):
            still = [
                client.post("/api/pictures", content=halting(never)) for _ in range(MOST_ARRIVING)
            ]
            for answer in await asyncio.gather(*still):
                assert answer.status_code == 408
                assert answer.json()["error"].startswith("upload must go on, got nothing for")
        assert not list(tmp_path.iterdir())

    talk(story)


def test_what_fails_on_its_way_makes_room_and_leaves_nothing(tmp_path):
    sessions = Sessions(tmp_path, most_arriving=1)

    def failing():
        with sessions.arriving() as session:
            with pytest.raises(RefusedError, match="at most 1 at a time"), sessions.arriving():
                pass
            with pytest.raises(RefusedError, match="still be open"):
                sessions.find(session.name)
            session.folder.joinpath("picture").touch()
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing()
    assert not list(tmp_path.iterdir())


def test_finished_pictures_are_bounded_in_number_and_all_in_age(tmp_path):
    now = 0.0
    sessions = Sessions(tmp_path, most=3, longest_idle=100, clock=lambda: now)

    def finished():
        with sessions.arriving() as session:
            return session

    first, second, third = (finished() for _ in range(3))
    now = 10.0
    sessions.find(first.name)  # used last: the second is the oldest now
    with sessions.arriving() as fourth:
        assert len(sessions) == 3
        assert second.folder.is_dir()
        now = 115.0  # it takes long to arrive, which is not to be idle
        sessions.sweep()
        assert len(sessions) == 0
        assert fourth.folder.is_dir()
    assert list(tmp_path.iterdir()) == [fourth.folder]
    for _ in range(3):
        finished()
    assert len(sessions) == 3
    assert not fourth.folder.exists()
    assert not third.folder.exists()
    sessions.close_all(patience=0)
    assert not list(tmp_path.iterdir())
