"""A hub on this machine: the few addresses of its protocol that up- and download use."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name, each a dict of files; private ones want the token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.requests: list[str] = []


def make_handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, status, body=b"", **headers):
            if isinstance(body, dict | list):
                body = json.dumps(body).encode()
                headers["Content-Type"] = "application/json"
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def known(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {hub.token}"

        def hidden(self, name) -> bool:
            return name not in hub.files or (name in hub.private and not self.known())

        def refuse(self):
            code = "RepoNotFound"
            self.answer(404 if self.known() else 401, {"error": "no"}, X_Error_Code=code)

        def do_GET(self):
            hub.requests.append(f"{self.command} {self.path}")
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                name = "/".join(parts[2:4])
                if self.hidden(name):
                    return self.refuse()
                if parts[4:5] == ["tree"]:
                    tree = [
                        {
                            "type": "file",
                            "path": file,
                            "size": len(content),
                            "oid": hashlib.sha1(content).hexdigest(),
                        }
                        for file, content in hub.files[name].items()
                    ]
                    return self.answer(200, tree)
                siblings = [{"rfilename": file} for file in hub.files[name]]
                return self.answer(200, {"id": name, "sha": COMMIT, "siblings": siblings})
            name, file = "/".join(parts[:2]), "/".join(parts[4:])
            if self.hidden(name):
                return self.refuse()
            content = hub.files[name].get(file)
            if content is None:
                return self.answer(404, {"error": "no"}, X_Error_Code="EntryNotFound")
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=tag, X_Repo_Commit=COMMIT)

        do_HEAD = do_GET

        def do_POST(self):
            hub.requests.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/api/validate-yaml":  # the model card's front matter
                return self.answer(200, {"errors": [], "warnings": []})
            if not self.known():
                return self.answer(401, {"error": "Invalid credentials"})
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.files.setdefault(name, {})
                if asked.get("private") or asked.get("visibility") == "private":
                    hub.private.add(name)
                host = self.headers["Host"]
                return self.answer(200, {"url": f"http://{host}/{name}", "name": name})
            parts = self.path.split("?")[0].strip("/").split("/")
            name = "/".join(parts[2:4])
            if parts[4] == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self.answer(200, {"files": files})
            if parts[4] == "commit":
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        content = base64.b64decode(entry["value"]["content"])
                        hub.files[name][entry["value"]["path"]] = content
                return self.answer(
                    200,
                    {
                        "commitUrl": f"http://{self.headers['Host']}/{name}/commit/{COMMIT}",
                        "commitOid": COMMIT,
                    },
                )
            return self.answer(200, {})

    return Handler


@pytest.fixture
def hub():
    """A `Hub` that listens on loopback; its address is `hub.endpoint`."""
    state = Hub(token="hf_test")
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(state))
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
