"""The command that serves the page of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import TracebackOption
from llm_datagen.cli.output import write
from llm_datagen.runs.typed_commands import RESULTS_VARIABLE, default_results

app = module_app()


@app.command()
def ui(
    results_dirs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RESULTS_DIR]...",
            help=f"Folders of runs; ${RESULTS_VARIABLE}, or tmp/results, unless given.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Where to listen. Another one than this machine's own needs --token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The port; 0 for a free one.")] = 0,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="LLM_DATAGEN_UI_TOKEN",
            help="What opens the page, 16 characters or more; a random one unless given.",
            show_default=False,
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show runs, and let nobody change them.")] = False,
    traceback: TracebackOption = False,
) -> None:
    """Show runs in a browser: a page on this machine, live. Runs go on when it ends.

    Ends at Ctrl+C.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.runs.page_process import check_page

        check_page()
        from llm_datagen.runs.results_dir import absolute
        from llm_datagen.streams.storage.object_uri import is_object_uri
        from llm_datagen.web.server import Server

        folders = results_dirs or [default_results()]
        server = Server(folders, host=host, port=port, token=token, read_only=read_only)
        for folder in folders:
            if not is_object_uri(absolute(folder)) and not Path(folder).is_dir():
                write(f"note: {folder} is not there yet")
        server.serve(on_ready=lambda: write(f"page: {server.url}"))
