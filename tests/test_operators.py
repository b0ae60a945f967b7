"""What a user may give as an operator, and how it is called (M11, M3); and hooks that are several (M26)."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.operators import (
    BaseOperator,
    Call,
    FunctionOperator,
    INodeContext,
    IOperator,
    as_operator,
    operator_name,
)
from llm_datagen.runs.hooks import HOOK_NAMES, CompositePipelineHooks, DefaultPipelineHooks, IPipelineHooks
from llm_datagen.streams.rows import Rejected


class Context:
    """A context that does nothing."""

    node_id = "node_0"
    pipeline_id = ""
    folder = None
    state: Any = None

    def report_usage(self, usage: Any) -> None: ...

    def is_cancelled(self) -> bool:
        return False

    def reject(self, reason: str) -> NoReturn:
        """Leave the row out."""
        raise Rejected(reason)

    def is_paused(self) -> bool:
        return False

    def log(self, message: str, **fields: Any) -> None: ...


CTX: INodeContext = Context()


def called(thing: Any, argument: Any) -> Any:
    """Call a thing as a node does."""
    call = Call(as_operator(thing))
    result = call(argument, CTX)
    assert inspect.iscoroutine(result) is call.is_async
    return asyncio.run(result) if call.is_async else result


def plain(item: Any) -> Any:
    return ["plain", item]


def with_ctx(item: Any, ctx: INodeContext) -> Any:
    return [ctx, item]


def with_context_of_another_name(item: Any, context: INodeContext) -> Any:
    return [context, item]


def with_ctx_by_default(item: Any, ctx: INodeContext | None = None) -> Any:
    return [ctx, item]


def with_another_default(item: Any, factor: int = 3) -> Any:
    return [factor, item]


def with_many(*arguments: Any) -> Any:
    return [arguments[1], arguments[0]]


async def awaited(item: Any) -> Any:
    return ["awaited", item]


async def awaited_with_ctx(item: Any, ctx: INodeContext) -> Any:
    return [ctx, item]


class Callable:
    def __call__(self, item: Any) -> Any:
        return ["called", item]

    def method(self, item: Any, ctx: INodeContext) -> Any:
        return [ctx, item]

    @staticmethod
    def static(item: Any) -> Any:
        return ["static", item]

    @classmethod
    def of_class(cls, item: Any, ctx: INodeContext) -> Any:
        return [ctx, item]


class AwaitedCallable:
    async def __call__(self, item: Any, ctx: INodeContext) -> Any:
        return [ctx, item]


@functools.wraps(with_ctx)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return with_ctx(*args, **kwargs)


@pytest.mark.parametrize(
    ("function", "first"),
    [
        (plain, "plain"),
        (with_ctx, CTX),
        (with_context_of_another_name, CTX),
        (with_ctx_by_default, CTX),
        (with_another_default, 3),
        (with_many, CTX),
        (awaited, "awaited"),
        (awaited_with_ctx, CTX),
        (lambda item: ["lambda", item], "lambda"),
        (lambda item, ctx: [ctx, item], CTX),
        (Callable(), "called"),
        (Callable().method, CTX),
        (Callable.static, "static"),
        (Callable.of_class, CTX),
        (AwaitedCallable(), CTX),
        (wrapped, CTX),
        (functools.partial(with_another_default, factor=5), 5),
        (functools.partial(with_ctx_by_default, ctx=None), None),
        (functools.partial(awaited), "awaited"),
        (FunctionOperator(with_ctx), CTX),
    ],
)
def test_a_function_is_called_with_what_it_takes(function: Any, first: Any) -> None:
    """M11: plain or async, with ctx or without, whatever it is made of."""
    assert called(function, {"a": 1}) == [first, {"a": 1}]


@pytest.mark.parametrize(
    ("function", "argument", "result"), [(len, "abc", 3), (str.upper, "a", "A"), (abs, -1, 1), (max, [1, 2], 2)]
)
def test_a_function_of_the_language_is_called_with_the_item(function: Any, argument: Any, result: Any) -> None:
    """M11: also one that says nothing of its parameters."""
    assert called(function, argument) == result


def test_a_function_may_take_the_whole_batch() -> None:
    """M11: if it says so; its name is that of the function unless given."""
    operator = FunctionOperator(lambda items: list(reversed(items)), batch=True, name="reversed")
    call = Call(as_operator(operator))
    assert call.batch
    assert call([1, 2], CTX) == [2, 1]
    assert operator_name(operator) == "reversed"
    assert repr(operator) == "FunctionOperator(reversed)"
    assert operator_name(as_operator(plain)) == "plain"
    assert operator_name(as_operator(functools.partial(plain))) == "partial"
    assert operator_name(as_operator(Callable())) == "Callable"
    assert not Call(as_operator(plain)).batch


class Items(BaseOperator):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return ["item", item]


class Batches(BaseOperator):
    name = "batches-v2"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return ["batch", items]


class Both(Items):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return ["both", items]


class AwaitedItems(BaseOperator):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return ["awaited", item]


class Duck:
    name = "duck"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return ["duck", item]


class CallableItems(Items):
    def __call__(self, item: Any) -> Any:
        raise AssertionError("an operator is not called as a function")


@pytest.mark.parametrize(
    ("operator", "is_batch", "first", "name"),
    [
        (Items(), False, "item", "Items"),
        (Batches(), True, "batch", "batches-v2"),
        (Both(), True, "both", "Both"),
        (AwaitedItems(), False, "awaited", "AwaitedItems"),
        (Duck(), False, "duck", "duck"),
        (CallableItems(), False, "item", "CallableItems"),
    ],
)
def test_an_object_is_called_by_the_method_that_it_has(operator: Any, is_batch: bool, first: str, name: str) -> None:
    """M11: process_batch when it has both; it need not inherit from anything."""
    assert as_operator(operator) is operator
    assert isinstance(operator, IOperator)
    assert Call(operator).batch is is_batch
    assert called(operator, 5) == [first, 5]
    assert operator_name(operator) == name


def test_a_method_may_be_set_on_the_object() -> None:
    """M11: what counts is what the object has."""
    operator = BaseOperator()
    operator.process_item = lambda item, ctx: ["set", item]  # type: ignore[method-assign]
    assert called(operator, 5) == ["set", 5]


class Empty(BaseOperator):
    pass


class Nothing:
    process_item = None


class WithoutCtx:
    def process_item(self, item: Any) -> Any:
        return item


class OnlyCtxByName:
    def process_batch(self, items: Any, *, ctx: Any) -> Any:
        return items


def no_arguments() -> Any: ...


def too_many(item: Any, ctx: Any, more: Any) -> Any: ...


def only_by_name(*, item: Any) -> Any: ...


def ctx_by_name(item: Any, *, ctx: Any) -> Any: ...


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (None, "not None"),
        (5, "not 5"),
        ("plain", "not 'plain'"),
        ([plain], "must be a function or have process_item"),
        (Items, "operator Items is a class; give an instance: Items()"),
        (dict, "is a class"),
        (Empty(), "operator Empty overrides neither process_item nor process_batch"),
        (BaseOperator(), "overrides neither"),
        (Nothing(), "must be a function or have process_item"),
        (WithoutCtx(), "operator WithoutCtx.process_item must take an item and ctx by position"),
        (OnlyCtxByName(), "operator OnlyCtxByName.process_batch must take an item and ctx by position"),
        (no_arguments, "operator no_arguments must take an item, or an item and ctx, by position"),
        (too_many, "operator too_many must take"),
        (only_by_name, "operator only_by_name must take"),
        (ctx_by_name, "operator ctx_by_name must take"),
    ],
)
def test_what_is_no_operator_is_an_error_that_says_why(wrong: Any, says: str) -> None:
    """M3: at construction, not at the first row."""
    with pytest.raises(ConfigError) as caught:
        as_operator(wrong)
    assert says in str(caught.value)


def test_methods_that_are_not_overridden_say_so() -> None:
    """M11: when somebody calls them."""
    for method in (Empty().process_item, Empty().process_batch):
        with pytest.raises(TypeError, match="Empty overrides neither"):
            method([], CTX)
    assert Empty().setup() is None
    assert Empty().teardown() is None


# Hooks.


class Recorder(DefaultPipelineHooks):
    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[Any] = []
        self._error = error

    def on_node_finish(self, cid: str, nid: str) -> None:
        self.seen.append((cid, nid))
        if self._error:
            raise self._error


def test_every_hook_goes_to_all_even_if_one_fails() -> None:
    """M26: in order; the first failure is told."""
    first, second, third = Recorder(), Recorder(KeyError("one")), Recorder(ValueError("two"))
    both = CompositePipelineHooks([first, second, third])
    with pytest.raises(KeyError, match="one"):
        both.on_node_finish("p", "n")
    assert first.seen == second.seen == third.seen == [("p", "n")]
    CompositePipelineHooks([first]).on_node_finish(cid="p", nid="m")
    assert first.seen[-1] == ("p", "m")


def test_all_hooks_are_known_and_do_nothing_by_default() -> None:
    """M26: the ten of the manual, and on_stall; one that lacks one of them is a failing hook, not a broken run."""
    assert set(HOOK_NAMES) == {name for name in vars(IPipelineHooks) if name.startswith("on_")}
    assert len(HOOK_NAMES) == 11
    both = CompositePipelineHooks([DefaultPipelineHooks(), DefaultPipelineHooks()])
    assert isinstance(both, IPipelineHooks)
    for name in HOOK_NAMES:
        parameters = inspect.signature(getattr(DefaultPipelineHooks, name)).parameters
        getattr(both, name)(*[None] * (len(parameters) - 1))
    with pytest.raises(AttributeError, match="on_log"):
        CompositePipelineHooks([object()]).on_log("p", "n", "info", "hello")  # type: ignore[list-item]
