"""The settings of pipelines and of nodes by themselves, besides those of all nodes (`llm_datagen.config.node`)."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from llm_datagen.config import (
    BatchOptions,
    IdScheme,
    InputIds,
    NodeConfig,
    NodeOptions,
    PipelineIdScheme,
    Setting,
    SizeOptions,
    WriterOptions,
    check_flag,
    choice_of,
    optional,
)
from llm_datagen.pipeline.export_settings import ExportSettings, output_of
from llm_datagen.pipeline.made_inputs import check_input_rows
from llm_datagen.pipeline.setting_checks import (
    check_base,
    check_folder,
    check_new_column,
    check_node_configs,
    check_operators,
    check_prefix_of_path,
    check_protocol,
    check_uri,
)
from llm_datagen.runs.hooks import IPipelineHooks, check_hooks
from llm_datagen.runs.logs.writer import DEFAULT_LOG, LogTarget, check_log
from llm_datagen.streams.ids import check_id_prefix


class EndOptions(TypedDict, total=False):
    """What a line of operators does."""

    operators: Annotated[
        Sequence[Any] | None,
        Setting(
            None,
            optional(check_operators),
            "operators, or functions of one row, in order. This one and the next two are needed for a new run: here, "
            "or in `create()`. A resume takes the paths from the run state. Without operators, it makes those that "
            "the run state names, with the arguments of then; what the program says of them now is not read",
        ),
    ]
    input_uri: Annotated[
        str | None, Setting(None, optional(check_uri), "where the rows come from; `-`: standard input", "URI")
    ]
    output_uri: Annotated[
        str | None,
        Setting(
            None, optional(output_of), "where the results go; `-`: standard output, when the run is completed", "URI"
        ),
    ]
    streaming: Annotated[
        bool,
        Setting(
            False, check_flag, "`True`: all nodes at once, each fed by the one before; `False`: one after the other"
        ),
    ]


class BetweenOptions(TypedDict, total=False):
    """Where the streams between nodes lie."""

    base_path: Annotated[
        str | os.PathLike[str],
        Setting("tmp", check_base, "where the streams between the nodes lie; may be on a store", "folder"),
    ]
    protocol_prefix: Annotated[
        str, Setting("", check_prefix_of_path, "the folder of these streams below `base_path`", "folder")
    ]
    default_protocol: Annotated[
        str, Setting("jsonl://", check_protocol, "the protocol of the streams between the nodes", "protocol")
    ]


class ResultsOptions(TypedDict, total=False):
    """Where runs are kept."""

    results_dir: Annotated[
        str | os.PathLike[str],
        Setting(
            "tmp/results",
            check_folder,
            "where run states are kept; may be on a store, `s3://bucket/runs`",
            "folder",
        ),
    ]


class HookOptions(TypedDict, total=False):
    """Who watches."""

    hooks: Annotated[
        IPipelineHooks | None,
        Setting(
            None, lambda _, value: check_hooks(value), "who watches: an object with the methods of `IPipelineHooks`"
        ),
    ]


class LogOptions(TypedDict, total=False):
    """Where the platform log goes."""

    log_file: Annotated[
        LogTarget,
        Setting(
            DEFAULT_LOG,
            lambda _, value: check_log(value),
            "the platform log, relative to the working directory when the run starts; a `LogFile` rotates it; or a "
            "logger of your own; `None`: no log. A file that is there and is no log is refused",
            "file",
        ),
    ]


class SchemeOptions(TypedDict, total=False):
    """How rows are named; in `UnifiedPipeline` also by position."""

    id_scheme: Annotated[
        PipelineIdScheme,
        Setting(
            "path",
            choice_of(PipelineIdScheme),
            'how rows are named: `"path"` (`7`, `7_0`), `"text"` (`"r7"`, `"r7_0"`: no reader takes one for a number) '
            'or `"numeric"` (`7`, `70000`)',
        ),
    ]


class IdOptions(TypedDict, total=False):
    """How rows are named, and where the names go."""

    id_prefix: Annotated[
        str | None,
        Setting(
            None,
            lambda _, value: value if value is None else check_id_prefix(value),
            'what ids begin with under `id_scheme="text"`, such as `"shard3-"`; `None` is `"r"`',
        ),
    ]
    input_ids: Annotated[
        InputIds,
        Setting(
            "keep",
            choice_of(InputIds),
            'what becomes of an `_i` that a row of the input has: `"keep"` puts it into `_i_in` (or `_i_in_2`, …), '
            '`"refuse"` makes the row fail, `"drop"` leaves it out',
        ),
    ]
    keep_ids: Annotated[
        bool,
        Setting(
            True,
            check_flag,
            "`False`: the rows of the output have no `_i`; they keep it beside the output, in `<output>.rows`",
        ),
    ]
    id_column: Annotated[
        str | None,
        Setting(
            None,
            optional(check_new_column),
            'what `_i` is called in the output, such as `"row_id"`; `None`: `_i`. Rows with `_i` are in '
            "`<output>.rows`, too",
            "column",
        ),
    ]


class SourceOptions(TypedDict, total=False):
    """What is known of where a row comes from."""

    source_column: Annotated[
        str | None,
        Setting(
            None,
            optional(check_new_column),
            'the column that says where each row of the input comes from, such as `"_source"`: '
            '`{"file": "part-3.jsonl", "row": 17}`, the file as seen from the folder of the pattern, the row in it '
            "from 0; `None`: none does",
            "column",
        ),
    ]


class FollowOptions(TypedDict, total=False):
    """Whether the input of a pipeline may grow."""

    follow_input: Annotated[bool, Setting(False, check_flag, "whether to wait for more rows until the input is sealed")]


class InputOptions(TypedDict, total=False):
    """Rows that the program holds."""

    input: Annotated[
        Any,
        Setting(
            None,
            optional(check_input_rows),
            "the rows themselves, in place of `input_uri`: a list or an iterator of dicts, or a table (pandas, Polars, "
            "Arrow). `create()` copies them into the folder of the run, so a resume needs them no more. Or what they "
            "are computed from: `Generate(…)`, `Cycle(…)`",
        ),
    ]


class _KeywordOptions(
    IdOptions, SourceOptions, ExportSettings, NodeOptions, FollowOptions, LogOptions, InputOptions, total=False
):
    """What `UnifiedPipeline` takes by name alone, here and in `create()`."""


class PipelineOptions(_KeywordOptions, total=False):
    """What the constructor of `UnifiedPipeline` takes besides its first thirteen arguments."""

    node_configs: Annotated[
        Sequence[NodeConfig | Mapping[str, Any] | None] | None,
        Setting(
            None,
            check_node_configs,
            "what differs from node to node, in order: a `NodeConfig`, a dict or `None` for each",
        ),
    ]


class PipelineOverrides(
    EndOptions,
    SizeOptions,
    WriterOptions,
    BetweenOptions,
    ResultsOptions,
    HookOptions,
    SchemeOptions,
    _KeywordOptions,
    total=False,
):
    """What `UnifiedPipeline.create()` takes in place of what the constructor was given."""


class PipelineSettings(PipelineOverrides, PipelineOptions, total=False):
    """All settings of a `UnifiedPipeline`."""


class TogetherOptions(TypedDict, total=False):
    """Whether nodes that were wired by hand run at once."""

    streaming: Annotated[
        bool,
        Setting(
            True,
            check_flag,
            "`True`: all nodes at once; `False`: one after the other, each after the one that it reads from",
        ),
    ]


class NodePipelineOptions(TogetherOptions, ResultsOptions, HookOptions, LogOptions, total=False):
    """All settings of a `UnifiedNodePipeline`."""


class AloneOptions(TypedDict, total=False):
    """What a line of operators says of its nodes itself."""

    id_scheme: Annotated[
        IdScheme,
        Setting("path", choice_of(IdScheme), 'how the children of a row are named: `"path"` or `"numeric"`'),
    ]
    follow_input: Annotated[
        bool,
        Setting(
            True,
            check_flag,
            "whether to wait for more rows until the input is sealed; `False`: it is taken as it is",
        ),
    ]


class NodeAloneOptions(
    BatchOptions, WriterOptions, NodeOptions, AloneOptions, SourceOptions, HookOptions, LogOptions, total=False
):
    """What the constructor of `UnifiedNode` takes besides its first three arguments."""


class NodeAloneSettings(SizeOptions, NodeAloneOptions, total=False):
    """All settings of a `UnifiedNode`."""
