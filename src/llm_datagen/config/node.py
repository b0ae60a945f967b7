"""The settings of nodes: the table. A setting is one entry here, and its use.

`UnifiedPipeline`, `NodeConfig`, `UnifiedNode`, the run state, the keys of YAML files and the tables of the reference
are filled from it.
"""

from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import Annotated, Any, Self, TypedDict, Unpack

from llm_datagen.config.checks import (
    check_count,
    check_flag,
    check_max_errors,
    check_rate,
    check_seconds,
    check_text,
    check_whole,
    choice_of,
    optional,
)
from llm_datagen.config.choices import BatchBy, DeliveryMode, ExecutorKind, OnError
from llm_datagen.config.groups import OLDER, DataConfig, WriterConfig
from llm_datagen.config.setting import Setting, object_of, refuse_unknown, settings_in
from llm_datagen.config.target import Target, check_target


class UriOptions(TypedDict, total=False):
    """Where a node in a line reads and writes, if not where its neighbours do."""

    input_uri: Annotated[
        str,
        Setting(None, optional(check_text), "where the node reads; must be what the node before writes", "URI"),
    ]
    output_uri: Annotated[str, Setting(None, optional(check_text), "where the node writes", "URI")]


class SizeOptions(TypedDict, total=False):
    """How much a node does at once; in constructors also by position."""

    parallel_size: Annotated[
        int, Setting(1, check_count, "how many batches are in the operator of a node at once, at most", "batches")
    ]
    batch_size: Annotated[
        int,
        Setting(
            1,
            check_count,
            "how many rows each call of `process_batch` gets; for `process_item`, it multiplies the calls at once",
            "rows",
        ),
    ]


class BatchOptions(TypedDict, total=False):
    """What a pipeline cannot say for all of its nodes."""

    batch_by: Annotated[
        BatchBy | None,
        Setting(
            None,
            optional(choice_of(BatchBy)),
            'which rows share a call of `process_batch`: `"position"`, those that lie together, or `"parent"`, '
            "children of one row and of no other; the nodes before it then need `ordered=True`. `None`: as the "
            'operator says (`BaseOperator.batch_by`, which is `"position"`)',
            before="position",
        ),
    ]


class WriterOptions(TypedDict, total=False):
    """How a node writes; in `UnifiedPipeline` also by position."""

    writer_config: Annotated[
        WriterConfig | Mapping[str, Any] | None,
        Setting(
            None,
            WriterConfig.check,
            "how results get to the disk: a `WriterConfig`, or a dict of its settings; `None`: its defaults. Of one "
            "node, a `WriterConfig` replaces the pipeline's as a whole, and a dict changes only what it names",
        ),
    ]


class NodeOptions(TypedDict, total=False):
    """What can be said of all nodes of a pipeline, of one of them, or of a node by itself."""

    ordered: Annotated[bool, Setting(False, check_flag, "whether rows leave a node in input order")]
    on_error: Annotated[
        OnError,
        Setting(
            "fail",
            choice_of(OnError),
            'what becomes of a row that fails: `"fail"` fails the node, and with it the run, `"skip"` leaves the row '
            'out and counts it, `"dead_letter"` writes it, with the error, to `<output>.errors.jsonl`',
        ),
    ]
    keep_rejected: Annotated[
        bool,
        Setting(
            False,
            check_flag,
            "whether rows that the operator rejects (`ctx.reject(reason)`, `Rejected(reason)`) are kept, with the "
            "reason, in `<output>.rejected.jsonl`; they are counted in any case",
        ),
    ]
    max_errors: Annotated[
        int | float | None,
        Setting(
            None,
            check_max_errors,
            "how many rows of a node may be skipped or dead-lettered before it fails after all, with "
            "`TooManyErrorsError`: a number of rows (`100`), or a share of its rows done (`0.01`; looked at from 100 "
            "rows on); `None`: any number",
        ),
    ]
    retries: Annotated[
        int,
        Setting(0, check_whole, "how often a call that raised is made again first, for the same rows", "calls"),
    ]
    retry_wait: Annotated[
        float,
        Setting(
            0.5,
            check_seconds,
            "the pause before the first retry, at most (a random part of it is waited); doubled for each further one, "
            "up to 60",
            "seconds",
        ),
    ]
    delivery: Annotated[
        DeliveryMode,
        Setting(
            "exactly_once",
            choice_of(DeliveryMode),
            '`"exactly_once"`: after a crash, the operator is called again for rows that were in flight; '
            '`"at_most_once"`: it is not, and they are dead-lettered as `Abandoned`',
        ),
    ]
    grace: Annotated[
        float,
        Setting(
            60.0,
            check_seconds,
            "how long a node that is being cancelled waits for calls in flight; then they are given up, and their "
            "rows are not done",
            "seconds",
        ),
    ]
    stall_after: Annotated[
        float,
        Setting(
            300.0,
            check_seconds,
            "how long nothing may move in a node, though there is work, before it is reported as stalled",
            "seconds",
        ),
    ]
    rate: Annotated[
        float | None,
        Setting(
            None,
            optional(check_rate),
            "how many rows per second a node hands to its operator, at most; retries are not counted. `None`: no limit",
            "rows/s",
        ),
    ]
    max_lead: Annotated[
        int | None,
        Setting(
            None,
            optional(check_count),
            "how far a node may be ahead of the nodes that read from it: by rows that it has written and that these "
            "are not done with, and its rows in flight; at least a batch of theirs. Needs `streaming=True`. `None`: "
            "any number",
            "rows",
        ),
    ]
    executor: Annotated[
        ExecutorKind,
        Setting(
            "auto",
            choice_of(ExecutorKind),
            'where plain operators are called: `"thread"`, in worker processes with `"process"` (for calls that keep a '
            'core busy), or `"auto"`, which is `"thread"`. Async operators run on an event loop',
        ),
    ]
    target: Annotated[
        int | Target | Mapping[str, Any] | None,
        Setting(
            None,
            optional(check_target),
            "the number of rows that a node writes, exactly, before it ends; or a `Target`. Nodes that nobody needs "
            "then end, too. Of a pipeline, it is for its last node. `None`: the node ends when its input does",
            "rows",
        ),
    ]
    data_config: Annotated[
        DataConfig | Mapping[str, Any] | None,
        Setting(
            None,
            DataConfig.check,
            "what of the data is refused: a `DataConfig`, or a dict of its settings; `None`: its defaults. Of one "
            "node, it replaces the pipeline's as a whole",
            before=OLDER,
        ),
    ]
    idle_timeout: Annotated[
        float | None,
        Setting(
            None,
            optional(check_seconds),
            "how long an input that is not sealed may bring no row, before that is an error; `None`: for ever. Of a "
            "pipeline, it is for the input alone: its other nodes wait for the node before them, however long",
            "seconds",
        ),
    ]


class NodeSettings(SizeOptions, BatchOptions, WriterOptions, NodeOptions, total=False):
    """All settings of a node, wherever it is."""


class NodeConfigOptions(UriOptions, NodeSettings, total=False):
    """What `NodeConfig` takes."""


_Fields: Any = make_dataclass(
    "_Fields", [(name, Any, None) for name in settings_in(NodeConfigOptions)], frozen=True, kw_only=True
)


class NodeConfig(_Fields):  # type: ignore[misc]  # its fields are those of the table
    """What may differ from node to node: a frozen dataclass of `NodeConfigOptions`.

    What is None, or is not given, is as the pipeline says; the `idle_timeout` of a pipeline is that of its first node.

    Raises:
        ConfigError: on a name that is not one of a setting, or a wrong value.
    """

    def __init__(self, **options: Unpack[NodeConfigOptions]) -> None:
        refuse_unknown(NodeConfigOptions, options, "NodeConfig")
        settings = settings_in(NodeConfigOptions)
        given = {name: value for name, value in options.items() if value is not None}
        super().__init__(**{name: settings[name].check(name, value) for name, value in given.items()})

    @classmethod
    def of(cls, value: Self | Mapping[str, Any] | None) -> Self:
        """Return `value` as a NodeConfig; None gives one that overrides nothing.

        Raises:
            ConfigError: on a key that is not a setting, or a wrong value.
        """
        return cls() if value is None else object_of(cls, "node_configs", value)

    def given(self) -> dict[str, Any]:
        """Return the settings that it says."""
        return {name: value for name in settings_in(NodeConfigOptions) if (value := getattr(self, name)) is not None}


def node_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some settings that are a node's."""
    return {name: settings[name] for name in settings_in(NodeSettings) if name in settings}


def settings_of_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a node of a run state, which may be of a version that did not have all of them."""
    table = settings_in(NodeSettings)
    return {name: entry[name] if name in entry else each.of_older_run(name) for name, each in table.items()}
