"""The command that makes files of other formats of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm_datagen.cli.exit_codes import FAILED, exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import IdArgument, JsonOption, ResultsOption, TracebackOption
from llm_datagen.cli.output import write, write_json
from llm_datagen.errors import ConfigError
from llm_datagen.runs.typed_commands import default_results

app = module_app()


@app.command(short_help="Make files of another format of a completed run.")
def export(
    pipeline_id: IdArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TARGET",
            help="out.parquet, out-{shard:05}.jsonl.zst, {column}/out.csv, chatml:PATH, hf-folder:DIR, any of them in "
            "s3://bucket/…, gs:// or az://, or hf://org/name.",
            show_default=False,
        ),
    ],
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help="Whose rows: a node's id, its number, or its operator's name. Unless given, those of the output.",
            show_default=False,
        ),
    ] = None,
    rows_per_shard: Annotated[
        int | None, typer.Option(metavar="N", help="Rows in a shard, for {shard}.", show_default=False)
    ] = None,
    keep_ids: Annotated[bool, typer.Option("--keep-ids/--no-keep-ids", help="Keep the ids of rows, as `_i`.")] = True,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of the ids, in place of `_i`.", show_default=False)
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="YAML|PATH",
            help="The columns: '{text: string, score: float64}'; or a table whose columns have the types.",
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Another option, such as mixed=json; may be given again.", show_default=False
        ),
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Put a README.md about the rows beside the files, or renew that of this run.")
    ] = False,
    license: Annotated[
        str | None, typer.Option(metavar="NAME", help="The licence, for the card.", show_default=False)
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let all see a data set that is made on the hub.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove what another export has made there.")] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Make files of another format of a completed run: Parquet, CSV, JSON lines, chat messages, Hugging Face.

    When it is interrupted, give the same command again: it goes on. Exits with 1 if rows do not fit.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.run_view import open_run
        from llm_datagen.runs.output_node import output_of, outputs_to_name
        from llm_datagen.runs.results_dir import absolute
        from llm_datagen.shards.export_run import export as export_run

        options: dict[str, Any] = dict(_parsed(text) for text in option or [])
        options |= {} if keep_ids else {"keep_ids": False}
        given = {"rows_per_shard": rows_per_shard, "id_column": id_column, "schema": _schema(schema)}
        options |= {name: value for name, value in given.items() if value is not None}
        results = absolute(results_dir or default_results())
        target = _from_here(to)
        run = open_run(results, pipeline_id)
        node_id, has_several = output_of(run.state, node)["node_id"], bool(node or outputs_to_name(run.state))
        made = export_run(
            pipeline_id,
            target,
            node=node_id,
            results_dir=results,
            card=card,
            license=license,
            overwrite=overwrite,
            public=public,
            **options,
        )
        if as_json:
            shown = {"rows": made.rows, "failed": made.failed, "was_there": made.was_there, "errors": made.errors_path}
            whose = {"pipeline_id": pipeline_id, "node": node_id, "to": to}
            write_json({**whose, **shown, "parts": made.parts, "columns": made.columns, "warnings": made.warnings})
        else:
            files = "1 file" if len(made.parts) == 1 else f"{len(made.parts)} files"
            rows = "1 row" if made.rows == 1 else f"{made.rows} rows"
            of = f" of {node_id}" if has_several else ""
            write(f"{to}: {rows}{of} in {files}{', which were there already' if made.was_there else ''}")
            for text in made.warnings:
                write(text)
        raise typer.Exit(FAILED if made.failed else 0)


def _from_here(to: str) -> str:
    """Return a target whose path does not depend on the directory."""
    if to.startswith("hf://"):
        return to
    from llm_datagen.streams.outputs import Target

    target = Target.of(to).absolute()
    return f"{target.kind}:{target.path}"


def _schema(text: str | None) -> Any:
    if text is None:
        return None
    if text.lstrip().startswith("{"):
        from llm_datagen.cli.yaml_load import yaml_value

        return yaml_value(text, "--schema")
    return str(Path(text).absolute())  # the command changes its directory to that of the run


def _parsed(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--option must be KEY=VALUE, not {text!r}")
    from llm_datagen.cli.yaml_load import yaml_value

    return key, yaml_value(value, f"--option {key}")
