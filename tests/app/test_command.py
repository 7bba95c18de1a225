"""What `autosam app` says before and while it listens."""

import socket
import sys

import pytest
import uvicorn

from autosam.app import server
from autosam.cli import run
from autosam.errors import ConfigError


def served(monkeypatch, model, **options):
    """What is said, with a server that ends at once; and the folder that was there meanwhile."""
    lines, folders = [], []
    original = server.build_app

    def remembering(model, folder, **values):
        folders.append(folder)
        return original(model, folder, **values)

    monkeypatch.setattr(server, "build_app", remembering)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    server.serve(model, source="tiny", port=0, open_browser=False, say=lines.append, **options)
    return lines, folders[0]


def test_it_says_where_it_is_and_its_folder_ends_with_it(monkeypatch, tiny_model):
    lines, folder = served(monkeypatch, tiny_model)
    assert len(lines) == 1
    assert lines[0].startswith("tiny is at http://127.0.0.1:")
    assert not folder.exists()


def test_it_warns_when_the_network_is_let_in(monkeypatch, tiny_model):
    lines, _ = served(monkeypatch, tiny_model, host="0.0.0.0")
    assert lines[0].startswith("warning: everyone who reaches 0.0.0.0 on port ")
    assert lines[1].startswith("tiny is at http://127.0.0.1:")


def test_a_port_that_is_taken_is_one_sentence(tiny_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"got 127.0.0.1:{port}"):
            server.serve(tiny_model, source="tiny", port=port, open_browser=False)
    with pytest.raises(ConfigError, match=r"got 203\.0\.113\.1:0"):
        server.serve(tiny_model, source="tiny", host="203.0.113.1", port=0, open_browser=False)


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_one_sentence_and_serves_nobody(monkeypatch, tiny_model, host):
    said = f"--host must be an address of this machine, got '{host}'"
    with pytest.raises(ConfigError, match=said):
        served(monkeypatch, tiny_model, host=host)


def test_the_port_is_looked_at_before_the_model_is_loaded(monkeypatch, tiny_model):
    loaded = []

    def load():
        loaded.append(True)
        return tiny_model

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="Choose another --port"):
            server.serve(load, source="tiny", port=taken.getsockname()[1], open_browser=False)
    assert loaded == []
    lines, _ = served(monkeypatch, load)
    assert loaded == [True]
    assert lines[0].startswith("tiny is at")


def test_two_apps_never_share_a_port():
    with server._listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"got 127.0.0.1:{port}"):
            server._listening("127.0.0.1", port)


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_without_its_packages_the_command_says_what_to_install(monkeypatch, capsys, package):
    for name in [name for name in sys.modules if name.startswith(("autosam.app", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert run(["app", "--no-browser"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'autosam[app]'" in said
    assert package in said
