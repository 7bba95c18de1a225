"""A hub on this machine: the few addresses of its protocol that up- and download use."""

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name, each a dict of files; private ones want the token.

    A dataset's name begins with "datasets/". Licences in `licences` are taken, others are not.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.licences = ("apache-2.0", "cc-by-4.0")
        self.endpoint = ""


def described(path: str, content: bytes) -> dict:
    digest = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": digest}


def listed(files: dict[str, bytes], folder: str, *, recursive: bool) -> list[dict]:
    """What the hub says lies in a folder: files, and unless it looks into them, folders."""
    found = {}
    for path, content in files.items():
        if not path.startswith(folder):
            continue
        inside = path[len(folder) :]
        if recursive or "/" not in inside:
            found[path] = described(path, content)
        else:
            child = folder + inside.split("/")[0]
            found[child] = {"type": "directory", "path": child, "size": 0, "oid": "0" * 40}
    return list(found.values())


def repository_of(parts: list[str]) -> tuple[str, list[str]]:
    """Name of the repository in an address, and what follows it."""
    if parts[0] == "datasets":
        return "/".join(parts[:3]), parts[3:]
    parts = parts[1:] if parts[0] == "models" else parts
    return "/".join(parts[:2]), parts[2:]


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
            path, _, query = self.path.partition("?")
            parts = path.strip("/").split("/")
            is_api = parts[0] == "api"
            name, rest = repository_of(parts[1:] if is_api else parts)
            if self.hidden(name):
                return self.refuse()
            files = hub.files[name]
            if is_api and rest[:1] == ["tree"]:
                folder = "".join(f"{part}/" for part in rest[2:])
                return self.answer(
                    200, listed(files, folder, recursive="recursive=true" in query.lower())
                )
            if is_api:
                siblings = [{"rfilename": file} for file in files]
                facts = {"id": name.removeprefix("datasets/"), "sha": COMMIT, "siblings": siblings}
                return self.answer(200, facts | {"private": name in hub.private, "tags": []})
            content = files.get("/".join(rest[2:]))
            if content is None:
                return self.answer(404, {"error": "no"}, X_Error_Code="EntryNotFound")
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=tag, X_Repo_Commit=COMMIT)

        do_HEAD = do_GET

        def do_POST(self):
            hub.requests.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/api/validate-yaml":  # the model card's front matter
                front = json.loads(body)["content"].split("---")[1]
                if any(f"license: {licence}\n" in front for licence in hub.licences):
                    return self.answer(200, {"errors": [], "warnings": []})
                return self.answer(400, {"errors": [{"message": '"license" must be one of ...'}]})
            if not self.known():
                return self.answer(401, {"error": "Invalid credentials"})
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                if asked.get("type") == "dataset":
                    name = f"datasets/{name}"
                host = self.headers["Host"]
                if name in hub.files:
                    return self.answer(409, {"error": "exists", "url": f"http://{host}/{name}"})
                hub.files[name] = {}
                if asked.get("private") or asked.get("visibility") == "private":
                    hub.private.add(name)
                return self.answer(200, {"url": f"http://{host}/{name}", "name": name})
            parts = self.path.split("?")[0].strip("/").split("/")
            name, rest = repository_of(parts[1:])
            if rest[0] == "paths-info":
                asked = json.loads(body)["paths"]
                files = hub.files[name].items()
                return self.answer(200, [described(*file) for file in files if file[0] in asked])
            if rest[0] == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self.answer(200, {"files": files})
            if rest[0] == "commit":
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "deletedFile":
                        del hub.files[name][entry["value"]["path"]]
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


@contextlib.contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A `Hub` that listens on loopback; its address is `hub.endpoint`."""
    hub = Hub(token="hf_test")
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield hub
    server.shutdown()
    server.server_close()


def through_hub(hub: Hub, code: str, cache, **environment: str) -> str:
    """Run code in a process whose hub is the one on loopback; the hub library reads that at import."""
    clean = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={
            **clean,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        },
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return answer.stdout.strip().splitlines()[-1]
