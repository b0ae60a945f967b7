"""Programs that tests run: forked from a process that has the imports, so that a start takes milliseconds.

`run` and `Program` are `subprocess.run` and `subprocess.Popen` for Python programs, as far as the tests need them. What
a start itself does (which modules it imports, how long it takes) is for `subprocess`. The process that forks starts
when this module is imported, so that it is there before any test looks at what it leaves behind.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from .forkserver import MESSAGE_BYTES, STATUS

SERVER = Path(__file__).with_name("forkserver.py")


class Server:
    """The process that forks."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
        with theirs:
            self._process = subprocess.Popen([sys.executable, SERVER, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        self._lock = threading.Lock()
        atexit.register(self.close)

    def fork(self, request: dict[str, Any], fds: Sequence[int]) -> int:
        """Fork a child; return its pid."""
        with self._lock:
            socket.send_fds(self._channel, [json.dumps(request).encode()], fds)
            answer = self._channel.recv(64)
        assert answer, "the process that forks programs has died"
        return int(answer)

    def close(self) -> None:
        """End the process."""
        self._channel.close()
        self._process.wait()


_server = Server()


class Program:
    """A program that runs.

    Args:
        arguments: what would follow `python`: `-W error`, `-c CODE`, `-m MODULE` or a file, and the program's own.
        cwd: its directory.
        env: its environment.
        stdin, stdout, stderr: files, `subprocess.PIPE`, `DEVNULL` or `STDOUT`; None: those of this process.
        is_leader: whether it leads a session of its own.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        is_leader: bool = False,
    ) -> None:
        words = [str(argument) for argument in arguments]
        options = []
        while words[0] == "-W":
            options.append(words[1])
            del words[:2]
        self.returncode: Any = None  # as in `subprocess`: nobody asks while it runs
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        request = {
            "arguments": words,
            "warnings": options,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "is_leader": is_leader,
        }
        theirs: list[int] = []
        try:
            for number, (name, given) in enumerate((("stdin", stdin), ("stdout", stdout), ("stderr", stderr))):
                if given == subprocess.PIPE:
                    ends = os.pipe()
                    setattr(self, name, os.fdopen(ends[number == 0], "w" if number == 0 else "r", encoding="utf-8"))
                    theirs.append(ends[number != 0])
                elif given == subprocess.DEVNULL:
                    theirs.append(os.open(os.devnull, os.O_RDWR))
                else:
                    file = theirs[1] if given == subprocess.STDOUT else number if given is None else given
                    theirs.append(os.dup(file if isinstance(file, int) else file.fileno()))
            self._status, told = os.pipe()
            theirs.append(told)
            self.pid = _server.fork(request, theirs)
        finally:
            for fd in theirs:
                os.close(fd)

    def poll(self) -> int | None:
        """Return the exit status, negative for the signal that ended it; None while it runs."""
        return self._end(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit status.

        Raises:
            subprocess.TimeoutExpired: when it runs still.
        """
        status = self._end(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"program {self.pid}", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """`kill -9` it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Give it nothing more; return what it prints to its end, and its errors."""
        if self.stdin is not None:
            self.stdin.close()
        found = ["", ""]

        def read(number: int, file: IO[str] | None) -> None:
            found[number] = "" if file is None or file.closed else file.read()

        errors = threading.Thread(target=read, args=(1, self.stderr))
        errors.start()
        read(0, self.stdout)
        errors.join()
        self.wait(timeout)
        return found[0], found[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.wait()

    def _end(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            data = os.read(self._status, 16)
            assert data, "the process that forks programs has died"
            (self.returncode,) = array.array(STATUS, data)
            os.close(self._status)
        status: int | None = self.returncode
        return status


def run(
    arguments: Sequence[object],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    given: str = "",
    timeout: float | None = 60.0,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return its status and what it has printed.

    Args:
        arguments: as for `Program`.
        cwd: its directory.
        env: its environment.
        given: what it can read.
        timeout: seconds; it is killed after them.
        check: whether another status than 0 is an error.

    Raises:
        subprocess.TimeoutExpired: when it takes longer.
        subprocess.CalledProcessError: with `check`.
    """
    with contextlib.ExitStack() as files:
        stdin, stdout, stderr = (
            files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape"))
            for _ in range(3)
        )
        stdin.write(given)
        stdin.seek(0)
        program = Program(arguments, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
        try:
            status = program.wait(timeout)
        finally:
            program.kill()
            program.wait()
        stdout.seek(0)
        stderr.seek(0)
        said = stdout.read(), stderr.read()
    done = subprocess.CompletedProcess([str(argument) for argument in arguments], status, *said)
    if check:
        done.check_returncode()
    return done
