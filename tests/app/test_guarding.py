"""What must never get in, never get out, and never stay behind."""

import logging
import socket
import time

import numpy as np
import pytest
from PIL import PngImagePlugin
from raster_scenes import river, write_raster
from small_app import OWN, ortho_bytes, picture_bytes, post, upload

from autosam.app import uploads
from autosam.app.guard import Guard, is_loopback

PNG = picture_bytes(river(20, 30)[0])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8765", 200),
        ("localhost:1", 200),
        ("[::1]:8765", 200),
        ("evil.example", 403),
        ("evil.example:8765", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.0.7", 403),
        ("localhost@evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_only_this_machines_own_name_is_answered(client, host, status):
    for path in ("/", "/app.js", "/api/model"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == status
    if status == 403:
        assert "host must be this machine's own name" in answer.json()["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("192.168.0.7:8765", 200), ("evil.example", 403), (socket.gethostname(), 200)],
)
def test_an_app_for_the_network_still_refuses_strange_names(asking, tiny_model, host, status):
    client = asking(tiny_model, host="0.0.0.0")
    assert client.get("/api/model", headers={"host": host}).status_code == status


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", ""])
def test_a_missing_or_malformed_host_passes_for_no_name(asking, tiny_model, monkeypatch, bound):
    monkeypatch.setattr(socket, "getfqdn", lambda: "")
    client = asking(tiny_model, host=bound)
    for host in ("", ":8765", "[::1"):
        assert client.get("/api/model", headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1.evil.example"},
        {"origin": "http://["},
    ],
)
def test_only_the_apps_own_page_may_post(client, headers):
    answer = client.post("/api/pictures", content=PNG, headers=headers)
    assert answer.status_code == 403
    assert "must come from the app's own page" in answer.json()["error"]
    assert not list(client.uploads.iterdir())
    for path in ("/api/example", "/api/pictures/x/close", "/nothing"):
        assert client.post(path, headers=headers).status_code == 403


def test_every_answer_tells_the_browser_to_load_nothing_from_elsewhere(client):
    state = upload(client, PNG).json()
    answers = [
        client.get("/"),
        client.get("/style.css"),
        client.get(f"/api/pictures/{state['id']}/levels"),
        client.get("/nothing"),
        client.get("/", headers={"host": "evil.example"}),
        upload(client, b"no picture"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 403, 415]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_names_no_other_address(client):
    for path in ("/", "/style.css", "/app.js", "/overlay.js", "/icon.svg"):
        text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert "style=" not in text  # the policy would pass it over
        assert "innerHTML" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/%2e%2e/server.py",
        "/page/..%2fserver.py",
        "/etc/passwd",
        "//etc/passwd",
        "/app.js/../../server.py",
        "/api/pictures/..%2f..",
        "/api/pictures/%2e%2e/files/mask.png",
        "/index.html%00.js",
    ],
)
def test_no_file_is_read_by_a_path_that_is_asked_for(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


def test_a_name_from_the_browser_never_becomes_a_path(client, tmp_path):
    name = "..%2F..%2F..%2Fetc%2Fx%00y%0A%3Cb%3E.png"
    state = upload(client, PNG, name).json()
    assert state["name"] == "xy<b>.png"
    files = [path for path in client.uploads.rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["picture.png"]
    assert not (client.uploads / state["id"]).stat().st_mode & 0o077
    answer = client.get(f"/api/pictures/{state['id']}/files/mask.png")
    assert answer.headers["content-disposition"] == 'attachment; filename="xy-b-mask.png"'
    bad = client.get(f"/api/pictures/{state['id']}/files/..%2fpicture.png")
    assert bad.status_code == 404
    assert client.get(f"/api/pictures/{state['id']}/files/picture.png").status_code == 404


def test_too_many_bytes_are_refused_before_and_while_they_arrive(asking, tiny_model):
    client = asking(tiny_model, largest_upload=50_000)
    told = client.post("/api/pictures", content=b"\x89PNG" * 20_000, headers=OWN)
    sent = 0

    def chunks():  # without a length in advance
        nonlocal sent
        for _ in range(100):
            sent += 4000
            yield b"\x89PNG" * 1000

    streamed = client.post("/api/pictures", content=chunks(), headers=OWN)
    for answer in (told, streamed):
        assert answer.status_code == 413
        assert "must have at most 0 MB, got more" in answer.json()["error"]
    assert not list(client.uploads.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture at all",
        b"<VRTDataset rasterXSize='9'/>",
        b"<GDALTileIndexDataset/>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe",
        b"GIF89a",
        b"/etc/passwd",
        b"http://127.0.0.1:1/a.tif",
        b"PK\3\4",
    ],
)
def test_what_is_no_picture_is_refused_and_leaves_nothing(client, content):
    answer = upload(client, content, "innocent.png")
    assert answer.status_code in (400, 415)
    assert "picture must " in answer.json()["error"]
    assert not list(client.uploads.iterdir())


def test_a_file_that_refers_to_another_never_reads_it(client, tmp_path):
    secret = write_raster(tmp_path / "secret.tif", river(20, 30)[0])
    vrt = (
        f'<VRTDataset rasterXSize="30" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    ).encode()
    for start in (b"", b"\n ", b"II*\0", b"MM\0*", b"II+\0", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"):
        answer = upload(client, start + vrt, "a.tif")
        assert answer.status_code in (400, 415), start
        assert str(tmp_path) not in answer.text
    assert not list(client.uploads.iterdir())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_pictures_are_refused_in_one_sentence_without_a_path(client, kind):
    whole = picture_bytes(river(200, 300)[0], kind)
    answer = upload(client, whole[: len(whole) // 2], "cut.png")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "cut.png" in error
    assert str(client.uploads) not in error
    assert "\n" not in error


def test_a_damaged_tiff_is_refused_by_its_shown_name(client, tmp_path):
    whole = ortho_bytes(tmp_path, river(200, 300)[0])
    for content in (whole[:60], whole[:900]):
        answer = upload(client, content, "cut.tif")
        assert answer.status_code == 400
        assert "cut.tif" in answer.json()["error"]
        assert "Copy the file again" in answer.json()["error"]
        assert "address" not in answer.text  # it came from a browser and has none
        assert str(client.uploads) not in answer.text


def test_pictures_that_unfold_to_too_many_pixels_are_refused(client, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST_PHOTO", 1_000_000)
    monkeypatch.setattr(uploads, "LARGEST_RASTER", 2_000_000)
    flat = np.zeros((1500, 1500, 3), np.uint8)
    for content in (
        picture_bytes(flat),
        picture_bytes(flat, "JPEG"),
        ortho_bytes(tmp_path, flat, compress="deflate"),
    ):
        answer = upload(client, content, "bomb")
        assert answer.status_code == 413
        assert "million pixels here, got 1500 x 1500 (bomb)" in answer.json()["error"]
    assert not list(client.uploads.iterdir())


def test_a_header_that_promises_a_giant_is_refused_before_it_is_decoded(client):
    start = time.monotonic()
    header = bytearray(PNG)
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    answer = upload(client, bytes(header), "giant.png")
    assert answer.status_code == 413
    assert "must have at most 80 million pixels" in answer.json()["error"]
    assert time.monotonic() - start < 5


def test_a_tiff_in_one_giant_block_is_refused(client, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST_BLOCK", 100_000)
    content = ortho_bytes(
        tmp_path, river(200, 300)[0], compress="deflate", blockysize=200, interleave="pixel"
    )
    answer = upload(client, content)
    assert answer.status_code == 413
    assert "gdal_translate -co TILED=YES" in answer.json()["error"]


def test_text_that_a_png_carries_is_not_shown_and_does_no_harm(client):
    words = PngImagePlugin.PngInfo()
    words.add_text("autosam", "<script>alert(1)</script>")
    state = upload(client, picture_bytes(river(20, 30)[0], pnginfo=words), "<img src=x>.png").json()
    assert "script" not in str(state)
    shown = client.get(f"/api/pictures/{state['id']}/screen.png").content
    assert b"alert" not in shown


def test_a_fault_inside_is_one_sentence_and_no_traceback(client, monkeypatch, caplog):
    monkeypatch.setattr(uploads, "read_image", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.CRITICAL):
        answer = upload(client, PNG)
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "Something went wrong inside autosam: its terminal says more."
    }
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert not list(client.uploads.iterdir())


def test_names_of_pictures_cannot_be_guessed_and_closing_removes_the_files(client):
    one, other = (upload(client, PNG).json()["id"] for _ in range(2))
    assert one != other
    assert len(one) >= 22  # 128 bits
    assert post(client, f"/api/pictures/{one}/close").json() == {"closed": True}
    gone = client.get(f"/api/pictures/{one}")
    assert gone.status_code == 404
    assert "Open it again" in gone.json()["error"]
    assert [path.name for path in client.uploads.iterdir()] == [other]


def test_nothing_is_left_when_the_app_ends(tiny_model, tmp_path):
    from starlette.testclient import TestClient

    from autosam.app.server import build_app

    app = build_app(tiny_model, tmp_path, source="tiny")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        upload(client, PNG)
        assert list(tmp_path.iterdir())
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("192.168.1.2", False), ("example.org", False), ("::", False)],
)  # fmt: skip
def test_loopback_is_known(host, expected):
    assert is_loopback(host) is expected
    assert Guard(None, host=host)._is_open is not expected
