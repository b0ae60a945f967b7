"""Settings of pipelines, nodes and writers: plain, frozen, checked once when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from llm_datagen.errors import ConfigError

Fsync = Literal["never", "close", "flush"]
OnError = Literal["fail", "skip", "dead_letter"]
DeliveryMode = Literal["exactly_once", "at_most_once"]
IdScheme = Literal["path", "numeric"]
PipelineIdScheme = Literal["path", "numeric", "text"]
BatchBy = Literal["position", "parent"]
"""Which rows share a call of `process_batch`: those that lie together, or of these, those that have one parent."""

InputIds = Literal["keep", "refuse", "drop"]
"""What becomes of an `_i` that a row of a pipeline's input has: it is kept as `_i_in`; or the row fails; or it goes."""

Nan = Literal["error", "null"]
"""What becomes of NaN and the infinities in an input."""

IfExists = Literal["error", "resume", "overwrite"]
ExecutorKind = Literal["auto", "thread", "process"]
Verify = Literal["tail", "full"]
OnChange = Literal["refuse", "accept", "rerun"]


def check_count(name: str, value: Any) -> int:
    """Return `value` if it is a whole number of at least 1.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def check_seconds(name: str, value: Any) -> float:
    """Return `value` if it is a positive number of seconds; else raise a ConfigError that names it."""
    return _check_positive(name, value, "seconds")


def check_rate(name: str, value: Any) -> float:
    """Return `value` if it is a positive number of rows a second; else raise a ConfigError that names it."""
    return _check_positive(name, value, "rows a second")


def _check_positive(name: str, value: Any, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be a positive number of {unit}, not {value!r}")
    return float(value)


def check_choice(name: str, value: Any, choices: Any) -> Any:
    """Return `value` if it is one of the literals in `choices`.

    Raises:
        ConfigError: naming `name`, the value and the choices.
    """
    allowed = get_args(choices)
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def check_text(name: str, value: Any) -> str:
    """Return `value` if it is text that is not empty.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} must be text, not {value!r}")
    return value


def check_path(name: str, value: Any) -> str:
    """Return `value` if it can be the path of a file, as text.

    Raises:
        ConfigError: naming `name`, the value, and what to write instead.
    """
    path = check_text(name, value)
    if "\0" in path:
        raise ConfigError(f"{name} has a NUL character, which no path can have: {path!r}")
    if any("\ud800" <= character <= "\udfff" for character in path):
        raise ConfigError(
            f"{name} is no text: {path!a} has half a character, or bytes that are not UTF-8; rename the file or folder"
        )
    if path.partition("/")[0] == "~":
        raise ConfigError(f"{name} is {path!r}, and ~ is not expanded here; write the folder, or Path.home() in Python")
    return path


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {value!r}")
    return value


def check_whole(name: str, value: Any) -> int:
    """Return `value` if it is a whole number of at least 0.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name} must be a whole number of at least 0, not {value!r}")
    return value


def check_max_errors(name: str, value: Any) -> int | float | None:
    """Return `value` if it is a number of rows, a share of the rows (between 0 and 1), or None.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if value is None or (isinstance(value, float) and 0 < value < 1):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(
            f"{name} must be a number of rows (such as 100), a share of the rows (such as 0.01) or None, not {value!r}"
        )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """What becomes of a row whose operator raises, or that cannot be parsed (M24).

    Attributes:
        on_error: "fail": the node, and with it the pipeline, fails. "skip": the row is left out and counted.
            "dead_letter": it is written, with its input and the error, to ``<output>.errors.jsonl``.
        max_errors: how many rows may be skipped or dead-lettered before the node fails after all: a number of rows,
            or a share of the rows done (looked at from 100 rows on). None: any number.
        retries: how often a call that raised is made again first, for the same rows. Rows that cannot be parsed
            are not tried again.
        retry_wait: seconds before the first retry, about; doubled, with jitter, for each further one, up to 60.
    """

    on_error: OnError = "fail"
    max_errors: int | float | None = None
    retries: int = 0
    retry_wait: float = 0.5

    def __post_init__(self) -> None:
        check_choice("on_error", self.on_error, OnError)
        check_max_errors("max_errors", self.max_errors)
        check_whole("retries", self.retries)
        check_seconds("retry_wait", self.retry_wait)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)

    def is_exceeded(self, errors: int, rows: int) -> bool:
        """Return whether `errors` among `rows` that are done are too many."""
        if self.max_errors is None:
            return False
        if isinstance(self.max_errors, float):
            return rows >= 100 and errors > self.max_errors * rows
        return errors > self.max_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterConfig:
    """How results get to the disk (M20).

    Attributes:
        async_mode: True: a worker hands its rows over and goes on (bounded by `queue_size`). False: it goes on
            only when they are on disk.
        queue_size: rows handed over and not yet committed, at most; a full queue blocks the worker threads.
        flush_batch_size: a flush is made at the latest when so many rows wait.
        flush_interval: seconds a row waits for a flush at most. An idle writer flushes at once.
        retry_interval: seconds between two looks at a source that has nothing new.
        fsync: when the operating system is told to put the data on the medium: "never", at "close" (before the
            seal), or at every "flush". The death of the process loses nothing in any of the three.
    """

    async_mode: bool = True
    queue_size: int = 10_000
    flush_batch_size: int = 1_000
    flush_interval: float = 1.0
    retry_interval: float = 0.1
    fsync: Fsync = "close"

    def __post_init__(self) -> None:
        check_flag("WriterConfig.async_mode", self.async_mode)
        check_count("WriterConfig.queue_size", self.queue_size)
        check_count("WriterConfig.flush_batch_size", self.flush_batch_size)
        check_seconds("WriterConfig.flush_interval", self.flush_interval)
        check_seconds("WriterConfig.retry_interval", self.retry_interval)
        check_choice("WriterConfig.fsync", self.fsync, Fsync)

    @classmethod
    def of(cls, value: WriterConfig | Mapping[str, Any] | None) -> WriterConfig:
        """Return `value` as a WriterConfig; None gives the defaults.

        Raises:
            ConfigError: on a key that is not a setting, or a wrong value.
        """
        if value is None:
            return cls()
        if isinstance(value, WriterConfig):
            return value
        return cls(**_known_keys(cls, "writer_config", value))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What of the data is refused, where it is read and where it is written.

    Attributes:
        nan: "error": a row that holds NaN or an infinity fails. "null": it is read and written as null.
        max_record_bytes: the longest record that is read; a longer one fails, and the next line goes on. None: 1 MiB
            of CSV, 64 MiB of JSON lines.
        strict: whether to refuse, when read, what is passed over otherwise: names that an object says twice, digits
            that a double does not hold, blank lines in CSV. It takes about five times as long to read JSON.
    """

    nan: Nan = "error"
    max_record_bytes: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        check_choice("DataConfig.nan", self.nan, Nan)
        if self.max_record_bytes is not None:
            check_count("DataConfig.max_record_bytes", self.max_record_bytes)
        check_flag("DataConfig.strict", self.strict)

    @classmethod
    def of(cls, value: DataConfig | Mapping[str, Any] | None) -> DataConfig:
        """Return `value` as a DataConfig; None gives the defaults.

        Raises:
            ConfigError: on a key that is not a setting, or a wrong value.
        """
        if isinstance(value, DataConfig):
            return value
        return cls() if value is None else cls(**_known_keys(cls, "data_config", value))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)


OLDER = DataConfig(max_record_bytes=1 << 62)
"""The settings of runs of versions that had none: no record was too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What may differ from node to node; None means: as the pipeline says.

    Attributes:
        input_uri: where the node reads.
        output_uri: where the node writes.
        batch_size: items a call of `process_batch` gets; for `process_item`, a factor of the concurrency.
        batch_by: which items share such a call: "position", those that lie together; "parent", children of one row, and
            of no other; None, as the operator says.
        parallel_size: batches in the operator at once, at most.
        writer_config: how results get to the disk.
        ordered: whether rows leave in input order.
        on_error: what becomes of a row that fails; see `FailurePolicy`, also for the next three.
        max_errors: how many rows may fail before the node does.
        retries: how often a call that raised is made again.
        retry_wait: seconds before the first retry.
        idle_timeout: seconds without a new row after which an unsealed input is an error; None waits forever.
        delivery: "exactly_once": after a crash, the operator is called again for rows in flight. "at_most_once": it
            never is; these rows are dead-lettered as abandoned.
        grace: seconds that a cancelled node waits for calls in flight; then they are given up.
        stall_after: seconds without any movement after which the node is reported as stalled.
        rate: rows that the node may hand to its operator in a second, at most; None for no limit.
        executor: where plain operators are called: "thread", in worker "process"es, or "auto", which is "thread".
        data_config: what of the data is refused: NaN, long records; see `DataConfig`.
    """

    input_uri: str | None = None
    output_uri: str | None = None
    batch_size: int | None = None
    batch_by: BatchBy | None = None
    parallel_size: int | None = None
    writer_config: WriterConfig | None = None
    ordered: bool | None = None
    on_error: OnError | None = None
    max_errors: int | float | None = None
    retries: int | None = None
    retry_wait: float | None = None
    idle_timeout: float | None = None
    delivery: DeliveryMode | None = None
    grace: float | None = None
    stall_after: float | None = None
    rate: float | None = None
    executor: ExecutorKind | None = None
    data_config: DataConfig | None = None

    def __post_init__(self) -> None:
        if self.input_uri is not None:
            check_text("input_uri", self.input_uri)
        if self.output_uri is not None:
            check_text("output_uri", self.output_uri)
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)
        if self.batch_by is not None:
            check_choice("batch_by", self.batch_by, BatchBy)
        if self.parallel_size is not None:
            check_count("parallel_size", self.parallel_size)
        if self.ordered is not None:
            check_flag("ordered", self.ordered)
        if self.on_error is not None:
            check_choice("on_error", self.on_error, OnError)
        check_max_errors("max_errors", self.max_errors)
        if self.retries is not None:
            check_whole("retries", self.retries)
        if self.retry_wait is not None:
            check_seconds("retry_wait", self.retry_wait)
        if self.idle_timeout is not None:
            check_seconds("idle_timeout", self.idle_timeout)
        if self.delivery is not None:
            check_choice("delivery", self.delivery, DeliveryMode)
        if self.grace is not None:
            check_seconds("grace", self.grace)
        if self.stall_after is not None:
            check_seconds("stall_after", self.stall_after)
        if self.rate is not None:
            check_rate("rate", self.rate)
        if self.executor is not None:
            check_choice("executor", self.executor, ExecutorKind)
        if self.data_config is not None:
            object.__setattr__(self, "data_config", DataConfig.of(self.data_config))
        if self.writer_config is not None:
            object.__setattr__(self, "writer_config", WriterConfig.of(self.writer_config))

    @classmethod
    def of(cls, value: NodeConfig | Mapping[str, Any] | None) -> NodeConfig:
        """Return `value` as a NodeConfig; None gives one that overrides nothing.

        Raises:
            ConfigError: on a key that is not a setting, or a wrong value.
        """
        if value is None:
            return cls()
        if isinstance(value, NodeConfig):
            return value
        return cls(**_known_keys(cls, "node_configs", value))

    def filled_from(self, defaults: NodeConfig) -> Self:
        """Return a copy in which what is None is taken from `defaults`."""
        missing = {
            field.name: getattr(defaults, field.name) for field in fields(self) if getattr(self, field.name) is None
        }
        return replace(self, **missing)


def _known_keys(cls: type, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a {cls.__name__} or a dict, not {value!r}")
    known = [field.name for field in fields(cls)]
    for key in value:
        if key not in known:
            raise ConfigError(f"{name} has no setting {key!r}; the settings are {', '.join(known)}")
    return dict(value)
