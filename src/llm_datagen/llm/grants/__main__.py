"""``python -m llm_datagen.llm.grants FOLDER``: a grants service as a process of its own.

It prints the lines that give a shell the two variables, and serves until SIGTERM or Ctrl+C.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence

from llm_datagen.llm.errors import GrantsError
from llm_datagen.llm.grants.service import service_for


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl+C; return the exit status. Called on the main thread."""
    parser = argparse.ArgumentParser(
        prog="python -m llm_datagen.llm.grants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="of the run, on a disk of this machine; the service keeps its files there")
    parser.add_argument("--host", default="127.0.0.1", help="to listen on; 0.0.0.0 for other hosts (%(default)s)")
    parser.add_argument("--address", help="the host's name, as other hosts are to call it; by default that of --host")
    given = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        service = service_for(given.folder, host=given.host, address=given.address)
    except GrantsError as error:
        print(error, file=sys.stderr)
        return 1
    with service:
        for name, value in service.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
