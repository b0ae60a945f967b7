"""The process that runs the model's server: started by `llm_datagen.cli.demo.server`, never by hand.

It is run as a file, so that it imports nothing but the standard library and xllamacpp. What passes between the
two processes:

* standard input: one line of JSON, the settings (the key is in neither the arguments nor the environment, where
  others could read it). Then nothing; its end means: stop. So the server dies with its parent, however that dies.
* standard output: one line of JSON, ``{"base_url": …}``, once the model is loaded.
* standard error: what the library has to say.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any


def start(settings: dict[str, Any]) -> tuple[Any, str]:
    """Load the model, and return its server (alive as long as the object is) and the server's address.

    Args:
        settings: ``model_path``, ``alias``, ``api_key``, ``slots`` (calls at once), ``context`` (tokens a slot) and
            ``threads``.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model_path"]
    params.model_alias = {settings["alias"]}
    params.api_keys = [settings["api_key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context"] * settings["slots"]
    # Two threads that spin for each other collapse as soon as the machine has anything else to do.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    # Without this the model is given a template that it answers with nonsense.
    params.use_jinja = False
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    return server, str(server.listening_address)


def main() -> None:
    """Serve until standard input ends or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the parent's affair
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the library prints must not pass for the answer
    settings = json.loads(sys.stdin.readline())
    _server, address = start(settings)
    print(json.dumps({"base_url": f"{address}/v1"}), file=answer, flush=True)

    parent_gone = threading.Event()

    def wait_for_the_end_of_input() -> None:
        sys.stdin.read()
        parent_gone.set()

    threading.Thread(target=wait_for_the_end_of_input, daemon=True).start()
    # A sibling that the parent forked may hold the other end of the pipe open: look at the parent as well.
    while not parent_gone.wait(1.0):
        if os.name == "posix" and os.getppid() != settings["parent"]:
            break
    os._exit(0)  # at once: calls that nobody waits for need not end


if __name__ == "__main__":
    main()
