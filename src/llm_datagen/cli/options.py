"""Arguments and options that several commands have, or that are long."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from llm_datagen.runs.typed_commands import RESULTS_VARIABLE


class IfExistsOption(enum.StrEnum):
    """What to do when the id has a run already."""

    ERROR = "error"
    RESUME = "resume"
    OVERWRITE = "overwrite"


class ExecutorOption(enum.StrEnum):
    """Who runs the shards of a run."""

    LOCAL = "local"
    RAY = "ray"
    NONE = "none"


class GoOnOption(enum.StrEnum):
    """Who goes on with the shards of a run."""

    LOCAL = "local"
    RAY = "ray"


class MergeOption(enum.StrEnum):
    """What becomes of the outputs of shards."""

    SHARDS = "shards"
    CONCAT = "concat"


class DiagramOption(enum.StrEnum):
    """The form of a diagram."""

    TEXT = "text"
    MERMAID = "mermaid"


class ReportOption(enum.StrEnum):
    """The form of a report."""

    HTML = "html"
    JSON = "json"
    MD = "md"


class OnErrorOption(enum.StrEnum):
    """What becomes of a row that fails."""

    FAIL = "fail"
    SKIP = "skip"
    DEAD_LETTER = "dead_letter"


class OnlyOption(enum.StrEnum):
    """Which rows are shown."""

    CHANGED = "changed"
    SAME = "same"
    A = "a"
    B = "b"


PipelineArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE.yaml|MODULE:NAME",
        help="A pipeline in YAML; or a pipeline in code, or a function that returns one: my_package.my_module:name.",
        show_default=False,
    ),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of the run.", show_default=False)]
OriginArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE.yaml|MODULE:NAME]",
        help="Where its operators come from; known already of a run that was started with `llm-datagen run`.",
        show_default=False,
    ),
]
DetachOption = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="End when all rows in flight wait in jobs of a batch API (batch_api); a resume collects their answers.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ResultsOption = Annotated[
    str | None,
    typer.Option(
        "--results-dir",
        metavar="DIR",
        help=f"The folder of the runs: this one (it may be one of a store, s3://bucket/runs), ${RESULTS_VARIABLE}, or "
        "tmp/results.",
        show_default=False,
    ),
]
UiOption = Annotated[
    bool,
    typer.Option(
        "--ui",
        help="Show the run in a browser, too, on a page whose address is printed. Needs the extra web.",
    ),
]
TracebackOption = Annotated[bool, typer.Option("--traceback", help="Show the whole traceback of an error.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting of the pipeline, such as streaming=true. May be given again.",
        show_default=False,
    ),
]
AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Operators were edited: finished rows stay, and the edited operators do the rest.",
    ),
]
RerunOption = Annotated[
    bool,
    typer.Option(
        "--rerun",
        help="Operators or steps were edited since: these, those that keep rows of an edit that was accepted, those "
        "that can take no more rows (such as GroupBy, after its end) though some would come, and all behind them are "
        "done again, with a Feedback that draws from them. What is before them stays, and what was there is kept as "
        "the run ID@1 (then ID@2, …).",
    ),
]
ReplaceOption = Annotated[
    bool,
    typer.Option("--replace", help="As --rerun, but what was there is deleted: no earlier version is kept."),
]
GoOnExecutorOption = Annotated[
    GoOnOption | None,
    typer.Option(
        "--executor", help="Who runs its shards, if it has some: local (the default), or ray.", show_default=False
    ),
]

RayAddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="With --executor ray: where the cluster is (ray://host:10001, host:6379, auto), or local, which starts a "
        "Ray. Unless given, RAY_ADDRESS, a cluster of this machine, or local.",
        show_default=False,
    ),
]

ResourcesOption = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='With --executor ray: what a shard needs, such as \'{"num_cpus": 2, "num_gpus": 1}\'.',
        show_default=False,
    ),
]

RuntimeEnvOption = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='With --executor ray: Ray\'s runtime environment of the shards, such as \'{"working_dir": "."}\'.',
        show_default=False,
    ),
]

OtelOption = Annotated[
    bool,
    typer.Option(
        "--otel",
        help="Tell OpenTelemetry of the run: spans and metrics, sent as the OTEL_… variables say (extra `otel`).",
    ),
]

OtelCallsOption = Annotated[
    float,
    typer.Option(
        "--otel-calls",
        min=0,
        max=1,
        metavar="SHARE",
        help="With --otel: the share of calls to models that get a span; 0 for none. Metrics count all calls.",
    ),
]

WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="How many shards run at once; as many as there are cores (or a cluster has room for), unless given.",
    ),
]
