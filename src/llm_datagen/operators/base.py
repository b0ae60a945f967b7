"""The class that operators inherit from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from llm_datagen.config import BatchBy
from llm_datagen.operators.arguments import NotPlainError, stored_arguments
from llm_datagen.operators.fingerprint import parts_of
from llm_datagen.operators.protocols import INodeContext


class _SignatureOfInit:
    """The signature of a class whose `__new__` takes anything: that of its `__init__`."""

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        if owner.__init__ is object.__init__:  # type: ignore[misc]
            return inspect.Signature()
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=owner)


class BaseOperator:
    """The class to inherit from: override `process_item` or `process_batch` (plain or async).

    When both are overridden, `process_batch` is used. `setup` and `teardown` may be overridden too (async if
    the operator is), for clients and models: they are called once per run, before the first and after the last
    call, on a thread (or event loop) of the node; with ``executor="process"``, once in each worker process.

    Attributes:
        name: the operator's name in the run state, in reports and in messages; the class's name unless set. A step of
            the same name in the code and in the run state is the same step.
        bisect: whether a batch that fails may be called again in halves, to find the row at fault; False makes the
            whole batch fail.
        batch_by: which rows share a call of `process_batch`: "position", those that lie together; "parent", children of
            one row, and of no other. A node's setting counts more.
        version: if it is set, a resume compares it in place of the operator's code and settings.
        stateful: True says that the operator keeps state between calls on purpose; it silences the warning.
        keeps_state: True says that it uses `ctx.state`. Then the node makes one call at a time, in the order of rows.
        calls_at_once: how many calls to make at once where `parallel_size` is 1, its default: more for an operator
            whose calls wait for one another, as rows of a job do.
    """

    name: str = ""
    bisect: bool = True
    batch_by: BatchBy = "position"
    version: str | None = None
    stateful: bool = False
    keeps_state: bool = False
    calls_at_once: int = 1

    if not TYPE_CHECKING:  # a constructor's own signature is what counts

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            """Record the arguments, so that the operator can be made again from the run state."""
            if cls.__init__ is object.__init__ and (args or kwargs):
                raise TypeError(f"{cls.__name__}() takes no arguments")
            self = super().__new__(cls)
            try:
                made_with = stored_arguments(cls, args, kwargs)
            except NotPlainError as reason:
                made_with = str(reason)
            object.__setattr__(self, "_made_with", made_with)
            return self

        # Else the signature of a class would be that of `__new__`, which takes anything.
        __signature__ = _SignatureOfInit()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__qualname__

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Turn one item into a row, None, or a list of rows."""
        raise TypeError(f"{type(self).__name__} overrides neither process_item nor process_batch")

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        """Turn a batch into one result per item, or into a flat list of rows."""
        raise TypeError(f"{type(self).__name__} overrides neither process_item nor process_batch")

    def kept_files(self) -> Mapping[str, str]:
        """Return the paths of files that it writes for itself, by what they are: ``{"cache": "answers.sqlite"}``.

        A run is refused in which one of them is another file of the run. Operators may share a file of one name.
        """
        return {}

    def finish(self, ctx: INodeContext) -> Any:
        """Return, or yield, the rows that are left to give when the source has ended.

        Their ids are ``end_0``, ``end_1`` … Called once, after the last row's call, if it is overridden.
        All that it gives is committed together, exactly once.
        When it raises, it is called again as the node's `retries` say, and then the node fails, whatever its policy.
        """

    def setup(self) -> Any:
        """Get ready for a run. Called once, before the first call."""

    def teardown(self) -> Any:
        """Release what `setup` took. Called once, after the last call, also after a failure."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what the results depend on, by the name of each part. Override it to say that better.

        The run state stores it, and a resume that finds other parts is refused. A text of up to 64 characters is stored
        as it is, so it must not be a secret; a longer one as a digest. None means that the part cannot be compared.

        Unless overridden: the code of the class, of the functions and classes of yours that it uses, with the globals
        that they name; and the attributes, plain data by its value, anything else by its type.
        """
        return parts_of(self)


def made_with(operator: Any) -> dict[str, Any] | str | None:
    """Return the arguments of an operator's constructor as plain data; or why they cannot be kept; None: not known."""
    is_known = isinstance(operator, BaseOperator) and type(operator).__new__ is BaseOperator.__new__
    return vars(operator).get("_made_with") if is_known else None
