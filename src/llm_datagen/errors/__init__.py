"""The errors of llm-datagen: one tree under `DatagenError`.

    DatagenError
    ├─ ConfigError    a setting has a wrong value; nothing was touched
    ├─ RunError       a run cannot begin, go on or be controlled, or it has failed
    ├─ OperatorError  an operator, its worker process, or the ids of rows
    ├─ StreamError    a stream, or a row of it
    ├─ LLMError       a call to a model (`llm_datagen.llm.errors`)
    ├─ DiskError      the operating system, or an object store, refuses an operation on a file
    └─ StopRun        no error: an operator ends the run, as a cancel does

Every message says what happened, where (path, line, offset, node, row id), and what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm_datagen.errors.deprecation import old_names
from llm_datagen.errors.failure_record import KEPT_CHARS as KEPT_CHARS
from llm_datagen.errors.failure_record import SHOWN_CHARS as SHOWN_CHARS
from llm_datagen.errors.failure_record import FailureRecord as FailureRecord


class DatagenError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigError(DatagenError, ValueError):
    """Raised when a parameter has a wrong value; raised before anything is touched on disk."""


class UnknownProtocolError(ConfigError):
    """Raised when a URI names a protocol that no stream class is registered for."""


class RunError(DatagenError):
    """The parent of what goes wrong with a run: it cannot begin, go on or be controlled, or it has failed."""


class PipelineExistsError(RunError):
    """Raised by `create()` when the pipeline id, or one of its outputs, is already there."""


class PipelineNotFoundError(RunError):
    """Raised by `resume()` when no run state of that pipeline id can be found."""


class PipelineBusyError(RunError):
    """Raised when another process, or another object in this one, is running the same pipeline id."""


class LeaseLostError(RunError):
    """Raised when a run on a store, or a shard, was taken over by another process, or its lease could not be kept up.

    This process can save nothing of the run any more. What it has committed is kept; `resume()` goes on with it. The
    same holds for an export to a store. A shard on a file system goes on in another folder, with what was committed
    when it was taken over.
    """


class RunStateError(RunError):
    """Raised when a `runtime.json` cannot be read."""


class ControlError(RunError):
    """Raised when a run of another process cannot be controlled from here; says why, and what to do."""


class RunEndedError(RunError):
    """Raised when a command comes after the end of a run, or of its host; a `pykka.ActorDeadError`, too."""


class NotRunningError(RunError, ConfigError):
    """Raised when a command that changes a run comes while none is under way; a ConfigError, too, as it was before."""


class UnknownMessageError(RunError, TypeError):
    """Raised to whoever asks an actor something that it does not understand; nothing is changed by it."""


class NodeFailedError(RunError):
    """Raised by `run()` when a node failed; `__cause__` is the original exception.

    Attributes:
        node_id: the node that failed first.
        failed_row: the row that it failed with, and its shortened input; None when no row was at fault.
    """

    def __init__(self, message: str, node_id: str = "", failed_row: str | None = None) -> None:
        super().__init__(message)
        self.node_id = node_id
        self.failed_row = failed_row


class TooManyErrorsError(RunError):
    """Raised when more rows failed than `max_errors` allows; `__cause__` is the last one's error."""


class OperatorError(DatagenError):
    """The parent of what goes wrong with an operator, its worker process, or the ids of rows."""


class OperatorMismatchError(OperatorError):
    """Raised by `resume()` when the operators in the code are not those that the run state was made with."""


class OperatorChangedError(OperatorMismatchError):
    """Raised by `resume()` when operators were edited, or steps added, removed or moved, since rows were made.

    Attributes:
        changes: what changed, by the id of the node: names of parts such as "prompt", "code", or "global LIMIT".
    """

    def __init__(self, message: str, changes: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.changes = {node_id: tuple(parts) for node_id, parts in (changes or {}).items()}


class FatalError(OperatorError):
    """Raised by an operator when no call can succeed any more: the run fails, whatever `on_error` and `retries` say.

    The row that it was called with has no part in it: it is not done, and a resume calls the operator with it again.
    """


class RowDataError(OperatorError, ValueError):
    """Raised by an operator of `llm_datagen.ops` when a row is not what it needs; names the column."""


class IdError(OperatorError):
    """Raised when a row id cannot be formed, or would collide, under the chosen id scheme."""


class WorkerDiedError(OperatorError):
    """Raised when a worker process (``executor="process"``) died: killed, crashed, or ended by its operator."""


class RemoteError(OperatorError):
    """Raised in place of an operator's exception that cannot be brought over from a worker process."""


class StreamError(DatagenError):
    """The parent of everything that can be wrong with a stream."""


class StreamMissingError(StreamError, FileNotFoundError):
    """Raised when a stream that should be there is not."""

    # FileNotFoundError formats itself as an OSError; ours is one sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StreamExistsError(StreamError):
    """Raised when a new stream would be written over rows that are already there."""


class StreamSealedError(StreamError):
    """Raised on a write to a stream that has ended (its `.done` is there)."""


class StreamBusyError(StreamError):
    """Raised when another writer has the same stream open."""


class StreamTakenOverError(StreamError):
    """Raised when another writer goes on with a stream in an object store: what this one adds is refused."""


class StreamChangedError(StreamError):
    """Raised when a stream is not what its commit log, or its reader's position, says it was (M22)."""


class StreamCorruptError(StreamError):
    """Raised when something below the commit point cannot be read or fails its checksum (S3)."""


class StreamIdleError(StreamError):
    """Raised when a stream that was never sealed gave nothing new for `idle_timeout` seconds."""


class RowFormatError(StreamError, ValueError):
    """Raised when a line of a stream is not a row; the message names the file and the line number."""


class ColumnError(RowFormatError):
    """Raised when a row has a column that the header of its CSV stream lacks."""


class RowValueError(RowFormatError, TypeError):
    """Raised when a row holds what its format cannot: NaN, half a character, a set; names the row and the column."""


class DiskError(DatagenError, OSError):
    """Raised when the operating system refuses an operation on a file: a full disk, a missing right, a broken medium.

    Or when an object store refuses a request, or cannot be reached, also when asked again.

    `errno`, `strerror` and `filename` say what and where, as with every OSError. Mend the cause, then resume.
    """


class HubError(StreamError):
    """Raised when the Hugging Face hub refuses, or cannot be reached. Nothing is lost: mend that, and go on."""


class StopRun(DatagenError):  # noqa: N818 - nothing is wrong, as with StopIteration
    """Raised by an operator, or its `setup`, to end the run as a cancel does; the text is the reason.

    The run is then `stopped`, and can be resumed.

    Calls in flight end and are saved. The row that it was called with is not done: a resume goes on with it.
    """


class ResumeWarning(UserWarning):
    """Warns that a resume uses what the run state says, and not what the code gives."""


class OperatorWarning(UserWarning):
    """Warns that rows of a run may not be those of one operator, called anew for each.

    `resume()` and `replay()` give it when the run state comes from an older version and does not say whether an
    operator was edited. A run gives it at its end when an operator keeps something from one call to the next.
    `create()` gives it when rows of the input have the column that `id_column` names: they fail unless an operator
    takes the column out.
    """


class InputWarning(UserWarning):
    """Warns, in `create()`, of an input.

    It is not there yet, and the run would not wait for it; it does not seem to be what its format says, such as CSV
    with semicolons; or it is another than that of a run of this id that was created before and has not begun.
    """


if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"ImageError": "RunStateError", "ImageMismatchError": "OperatorMismatchError"})
