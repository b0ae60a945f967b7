"""What crosses from one process to another: operators, and the exceptions that they raise."""

from __future__ import annotations

import importlib.util
import os
import pickle
from typing import Any

from llm_datagen.errors import ConfigError, FailureRecord, RemoteError
from llm_datagen.operators import Call, operator_name, operators_within


def check_operator(operator: Any, node_id: str) -> None:
    """Check that an operator may run in worker processes.

    Raises:
        ConfigError: when it is async, keeps state, has a `finish`, or what is needed is not installed.
    """
    call = Call(operator)
    if call.keeps_state or call.finish is not None:
        what = "keeps state (ctx.state)" if call.keeps_state else "has a finish()"
        raise ConfigError(
            f"{node_id}: executor='process' is for operators whose calls are independent, and "
            f"{operator_name(operator)} {what}; leave executor out for this node (node_configs)"
        )
    if any(getattr(each, "feedback_of", None) is not None for each in operators_within(operator)):
        raise ConfigError(
            f"{node_id}: executor='process' has no access to rows of other nodes, from which {operator_name(operator)} "
            "draws (Feedback); leave executor out for this node (node_configs)"
        )
    if call.is_async:
        raise ConfigError(
            f"{node_id}: executor='process' is for plain operators, and {operator_name(operator)} is `async def`; "
            "leave executor out for this node (node_configs), or make the operator plain"
        )
    if os.name != "posix":
        raise ConfigError(f"{node_id}: executor='process' needs Linux, macOS or another POSIX system")
    if importlib.util.find_spec("cloudpickle") is None:
        raise ConfigError(f"{node_id}: executor='process' needs cloudpickle: pip install 'llm-datagen[process]'")


def pack(operator: Any, *others: Any) -> bytes:
    """Return an operator, and what it is sent with, as bytes. What a script defines is in them, code and all.

    Raises:
        ConfigError: when it cannot be pickled.
    """
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps((operator, *others)))
    except Exception as error:
        raise ConfigError(
            f"operator {operator_name(operator)} cannot be sent to a worker process "
            f"({type(error).__name__}: {error}); make clients, locks and open files in setup(), which runs in the "
            "worker, or use executor='thread'"
        ) from error


def pack_plain(value: Any) -> bytes:
    """Return a decoder, or records that know theirs, as bytes."""
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - one of the script's
        import cloudpickle

        return bytes(cloudpickle.dumps(value))


def pack_error(error: BaseException) -> bytes | None:
    """Return an exception as bytes; None when it would not come out of them again."""
    try:
        try:
            data = pickle.dumps(error)
        except Exception:  # noqa: BLE001 - its class is one of the script's
            import cloudpickle

            data = cloudpickle.dumps(error)
        return data if type(pickle.loads(data)) is type(error) else None
    except BaseException:  # noqa: BLE001 - the code of an exception may do anything
        return None


def unpack_error(data: bytes | None, record: FailureRecord) -> BaseException:
    """Return an exception of another process, with the traceback that it had there as a note.

    Args:
        data: what `pack_error` returned there.
        record: what is known of it in any case.

    Returns:
        The exception, or a `RemoteError` in its place.
    """
    error: BaseException | None = None
    if data is not None:
        try:
            error = pickle.loads(data)
        except BaseException:  # noqa: BLE001
            error = None
    if not isinstance(error, BaseException):
        error = RemoteError(f"{record} (this exception cannot be pickled, so it stayed in its worker process)")
    error.add_note(f"In the worker process:\n{record.trace.rstrip()}")
    return error
