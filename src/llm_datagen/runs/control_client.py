"""The control socket of a run: where it lies, and how another process of the same user speaks through it.

    <folder of the user's, 0700>/<hash of the run's folder>.sock    a Unix domain socket, 0600

One connection carries one line of JSON each way. The request has the run's id and the token that its owner made up
when it took the lock, so that only the run that was meant answers:

    {"pipeline_id": …, "token": …, "order": "pause", "arguments": {}}
    {"answer": {…}}                        or {"error": what is wrong, "is_config": whether the request is}

The address is noted in `owner.json`. It is short whatever `results_dir` is: the system allows about 100 bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

from llm_datagen.errors import ConfigError, ControlError
from llm_datagen.runs.store import RunFolder
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

MOST_BYTES = 1 << 16
"""The longest request or reply."""

ASK_SECONDS = 10.0
"""How long to wait for an answer."""

_LONGEST_PATH = 100
_BACKLOG = 128

_own: WeakSet[socket.socket] = WeakSet()


def open_socket(folder: RunFolder) -> tuple[socket.socket, str] | None:
    """Make the socket of a run whose lock this process holds; None when there is no place for one.

    A socket that a killed process left there is replaced: the lock says that nobody else has the run. Sockets that
    other killed processes of this user left beside it are removed.

    Returns:
        The socket, which listens, and its path.
    """
    if not hasattr(socket, "AF_UNIX"):  # not on this system
        return None
    where = folder.location if folder.is_on_store else folder.path.resolve()
    name = hashlib.sha256(os.fsencode(where)).hexdigest()[:24]
    for home in _homes():
        path = home / f"{name}.sock"
        if len(os.fsencode(path)) > _LONGEST_PATH:
            continue
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made = path.with_suffix(".new")  # it gets its name once it listens, so a socket that can be found is alive
            made.unlink(missing_ok=True)
            listening.bind(str(made))
            made.chmod(0o600)
            listening.listen(_BACKLOG)
            made.replace(path)
        except OSError:
            listening.close()
            continue
        not_inherited(listening)
        _sweep(home)
        return listening, str(path)
    return None


def not_inherited(connection: socket.socket) -> None:
    """Close a socket in forked processes. Else they would keep it open after this process is killed."""
    _own.add(connection)


def _close_in_child() -> None:
    for connection in list(_own):
        with contextlib.suppress(OSError):
            connection.close()
    _own.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _sweep(home: Path) -> None:
    """Remove this user's sockets at which nobody listens."""
    for path in home.glob("*.sock"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            found = path.lstat()
            if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
                continue
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                if path.lstat().st_ino == found.st_ino:
                    path.unlink()


def _homes() -> Iterator[Path]:
    """Return folders that only this user can enter."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for base in [*([runtime] if runtime else []), tempfile.gettempdir(), "/tmp"]:
        home = Path(base).absolute() / f"llm-datagen-{os.getuid()}"
        with contextlib.suppress(OSError):
            home.mkdir(mode=0o700, exist_ok=True)
            found = home.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                yield home


def ask(folder: RunFolder, command: str, **arguments: Any) -> dict[str, Any]:
    """Ask the process that runs `folder`, and return its answer.

    Args:
        folder: the run's folder.
        command: "pause", "unpause", "reconfigure", "cancel" or "status".
        arguments: those of the message: `node_id`, `parallel_size`, `batch_size`, `rate`; `reason`.

    Raises:
        ConfigError: when the run refuses the command; nothing is changed then.
        ControlError: when no process that can be reached from here runs it, or it does not answer.
    """
    name, owner = f"run {folder.pipeline_id!r}", folder.lock.owner()
    if owner is None or not (folder.lock.is_held() or folder.lock.owner_elsewhere()):
        raise ControlError(f"{name} is not running")
    if owner.is_elsewhere:
        raise ControlError(f"{name} runs on {owner.host}, and this is {socket.gethostname()}: run this command there")
    if not owner.control:
        raise ControlError(f"{name} has no control socket (yet): try again, or do it in the program that runs it")
    request = {"pipeline_id": folder.pipeline_id, "token": owner.token, "order": command, "arguments": arguments}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ASK_SECONDS)
            connection.connect(owner.control)
            connection.sendall(dumps(request) + b"\n")
            reply = loads_exactly(read_line(connection))
    except PermissionError:
        raise ControlError(
            f"{name} is run by process {owner.pid} of another user: run this command as that user"
        ) from None
    except TimeoutError:
        raise ControlError(
            f"{name}: process {owner.pid} did not answer within {ASK_SECONDS:g} s; it may hang"
        ) from None
    except (OSError, ValueError) as error:
        raise ControlError(f"{name}: process {owner.pid} is ending, or gone ({error!r} at {owner.control})") from None
    if "error" in reply:
        raise (ConfigError if reply["is_config"] else ControlError)(f"{name}: {reply['error']}")
    return dict(reply["answer"])


def read_line(connection: socket.socket) -> bytes:
    """Read a line from a connection.

    Raises:
        ValueError: when it ends before the line does, or the line is too long.
        OSError: when it breaks, or its timeout is over.
    """
    data = b""
    while not data.endswith(b"\n"):
        more = connection.recv(4096)
        data += more
        if not more or len(data) > MOST_BYTES:
            raise ValueError("no whole line came")
    return data
