"""``python -m llm_datagen.testing.server``: a `FakeLLMServer` as a process of its own.

It prints its base URL as its first line, and serves until SIGTERM or Ctrl+C. ``GET /stats`` returns its counts,
``GET /latencies`` the seconds of each call, ``PUT /outage`` begins an outage, ``DELETE /outage`` ends it,
``GET /account`` returns what would be billed, and ``PUT /clock`` with ``{"advance": S}`` moves the time of jobs on
(paths of the server, without ``/v1``).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence

from llm_datagen.errors import ConfigError
from llm_datagen.testing.fake_llm.batch.options import BatchFaults, LLMBatches
from llm_datagen.testing.fake_llm.faults import KINDS, Latency, LLMFaults
from llm_datagen.testing.fake_llm.limits import LLMLimits
from llm_datagen.testing.fake_llm.server import FakeLLMServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl+C; returns the exit status. Called on the main thread."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        server = FakeLLMServer(
            answer=given.answer,
            latency=Latency(seconds=given.latency, slow_share=given.slow_share, slow_seconds=given.slow_seconds),
            faults=LLMFaults(retry_after=given.retry_after, **{name: getattr(given, name) for name in KINDS}),
            limits=None if given.at_once is None else LLMLimits(at_once=given.at_once),
            seed=given.seed,
            batches=_batches(given.batches),
            port=given.port,
        )
    except ConfigError as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with server:
        print(server.base_url, flush=True)
        ended.wait()
    return 0


def _batches(text: str) -> LLMBatches:
    try:
        options = json.loads(text)
        faults = BatchFaults(**options.pop("faults", {}))
        return LLMBatches(faults=faults, **options)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"--batches must be the fields of LLMBatches as JSON, not {text!r}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llm_datagen.testing.server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0: a free one (%(default)s)")
    parser.add_argument("--answer", metavar="TEXT", help="of every call; by default as the request's schema asks")
    parser.add_argument("--seed", type=int, default=0, help="of faults, latencies and answers (%(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="of a call (%(default)s)")
    parser.add_argument("--slow-share", type=float, default=0.0, metavar="SHARE", help="of calls that are slow, 0 to 1")
    parser.add_argument(
        "--slow-seconds", type=float, default=1.0, metavar="SECONDS", help="of a slow call (%(default)s)"
    )
    for name in KINDS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0, metavar="SHARE", help="of calls")
    parser.add_argument("--at-once", type=int, metavar="CALLS", help="that are answered; one more gets 429")
    parser.add_argument(
        "--batches",
        default="{}",
        metavar="JSON",
        help='of batch APIs: \'{"seconds": 5, "faults": {"drop_after": 0.1}}\'',
    )
    parser.add_argument("--retry-after", type=float, default=1.0, metavar="SECONDS", help="of a 429 (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
