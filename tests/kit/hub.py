"""A Hugging Face hub on loopback: data sets with commits, which are listed, downloaded and pushed to."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

TOKEN = "hf_secret_of_the_user"


class FakeHub(ThreadingHTTPServer):
    """The few requests of the hub's API that reading and pushing one data set, ``org/set``, make.

    Attributes:
        files: what the main branch holds now.
        commits: how many pushes there were.
        created: what was asked for when data sets were made.
        refusal: the status of each answer; 0: as it should be.
        error_code: what the hub says with a refusal.
        failures: so many of the next requests fail with status 503.
        requests: method and path of each request.
        answers: when it is cleared, no request for a file is answered before it is set.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files: dict[str, bytes] = {}
        self.history: dict[str, dict[str, bytes]] = {}
        self.created: list[dict[str, Any]] = []
        self.commits = 0
        self.refusal = 0
        self.error_code = ""
        self.failures = 0
        self.requests: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    @property
    def url(self) -> str:
        """Its address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def head(self) -> str:
        """Return the commit of what there is now."""
        digest = sha1(repr(sorted(self.files.items())).encode(), usedforsecurity=False).hexdigest()
        self.history.setdefault(digest, dict(self.files))
        return digest

    def downloads(self) -> list[str]:
        """Return the names of the files that were downloaded, in order."""
        return [line.split("/", 6)[6] for line in self.requests if line.startswith("GET /datasets/org/set/resolve/")]


class _Answers(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self._file(with_data=False)

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self._file(with_data=True)
        elif not self._is_refused():
            self._listing()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.refusal or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": f"no: {self.headers.get('Authorization')}"}, self.server.refusal or 401)
        elif self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(body))
            self._answer({"url": f"{self.server.url}/datasets/org/set", "name": "org/set", "id": "1"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del self.server.files[value["path"]]
            self.server.commits += 1
            oid = "0" * 40
            url = f"{self.server.url}/datasets/org/set/commit/{oid}"
            self._answer({"success": True, "commitUrl": url, "commitOid": oid})
        else:
            self._answer({"error": self.path}, 404)

    def _listing(self) -> None:
        head = self.server.head()
        if not self.path.startswith("/api/datasets/org/set"):
            self._answer({"error": "no"}, 404, "RepoNotFound")
            return
        _, given, revision = self.path.partition("?")[0].partition("/revision/")
        revision = {"main": head, "v1": head}.get(unquote(revision), unquote(revision)) if given else head
        if revision not in self.server.history:
            self._answer({"error": "no"}, 404, "RevisionNotFound")
            return
        found = self.server.history[revision].items()
        if "/tree/" in self.path:
            self._answer([{"type": "file", "path": path, "oid": "0", "size": len(data)} for path, data in found])
        else:
            siblings = [{"rfilename": path, "size": len(data), "blobId": "0"} for path, data in found]
            self._answer({"id": "org/set", "sha": revision, "siblings": siblings})

    def _file(self, *, with_data: bool) -> None:
        if self._is_refused():
            return
        self.server.answers.wait()
        revision, _, name = self.path.removeprefix("/datasets/org/set/resolve/").partition("/")
        if revision not in self.server.history:
            self._answer({}, 404, "RevisionNotFound")
            return
        data = self.server.history[revision].get(unquote(name))
        if data is None:
            self._answer({}, 404, "EntryNotFound")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{sha1(data, usedforsecurity=False).hexdigest()}"')
        self.send_header("X-Repo-Commit", revision)
        self.end_headers()
        if with_data:
            self.wfile.write(data)

    def _is_refused(self) -> bool:
        self.server.requests.append(f"{self.command} {self.path}")
        if self.server.failures:
            self.server.failures -= 1
            self._answer({"error": "busy"}, 503)
            return True
        if self.server.refusal:
            self._answer(
                {"error": f"no: {self.headers.get('Authorization')}"}, self.server.refusal, self.server.error_code
            )
            return True
        return False

    def _answer(self, value: Any, status: int = 200, code: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub, with the settings that lead to it, and an empty cache."""
    from huggingface_hub import constants

    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-home" / "hub"))  # it was read at the import
    monkeypatch.setattr("llm_datagen.streams.storage.hub.RETRY_SECONDS", (0.0, 0.0))
    clock = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)  # it waits before it tries again, too
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
