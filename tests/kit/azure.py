"""Azure Blob Storage on loopback: Azurite, where it is installed (``npm install -g azurite``)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

from .support import eventually

PROGRAM = shutil.which("azurite-blob")
"""The emulator; None where it is not installed."""

_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_VERSION = "2021-08-06"


@contextmanager
def azure_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run the emulator; give the environment by which its clients find it.

    Args:
        folder: where it may put files.
    """
    assert PROGRAM is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [PROGRAM, "--blobPort", str(port), "--inMemoryPersistence", "--silent", "--disableTelemetry"]
    command += ["--skipApiVersionCheck"]
    with (folder / "azurite.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(port), "Azurite")
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{_ACCOUNT}",
        }
    finally:
        server.kill()
        server.wait()


def put_container(environment: dict[str, str]) -> str:
    """Make a container; return its name."""
    name, date = f"container-{uuid.uuid4().hex[:8]}", formatdate(usegmt=True)
    lines = f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
    text = "PUT" + "\n" * 12 + lines
    digest = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    signed = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    uri = f"{environment['AZURE_STORAGE_ENDPOINT']}/{name}?restype=container"
    headers = {"x-ms-date": date, "x-ms-version": _VERSION, "Authorization": signed}
    urllib.request.urlopen(urllib.request.Request(uri, method="PUT", headers=headers)).close()
    return name


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
