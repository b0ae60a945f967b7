"""Settings: checked once, when they are made; an error names the setting and the value (M3, M20)."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from llm_datagen.config import (
    IdScheme,
    NodeConfig,
    WriterConfig,
    check_choice,
    check_count,
    check_flag,
    check_seconds,
    check_text,
)
from llm_datagen.errors import ConfigError, DatagenError

NO_COUNTS = [0, -1, 1.0, 1.5, True, False, "1", [1], float("nan")]
NO_SECONDS = [0, -0.1, float("inf"), float("nan"), True, "1", [1]]
NO_FLAGS = [0, 1, "yes", "", [], 1.0]


def is_refused(make: Any, name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
    assert isinstance(caught.value, DatagenError)
    assert isinstance(caught.value, ValueError)


def pairs(names: Sequence[str], values: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name in names for value in values]


WRONG_FOR_WRITER = [
    *pairs(["queue_size", "flush_batch_size"], [None, *NO_COUNTS]),
    *pairs(["flush_interval", "retry_interval"], [None, *NO_SECONDS]),
    *pairs(["async_mode"], [None, *NO_FLAGS]),
    *pairs(["fsync"], [None, "always", "", True, 0, ["close"], "Close"]),
]


@pytest.mark.parametrize(("name", "value"), WRONG_FOR_WRITER)
def test_a_wrong_writer_setting_is_named(name: str, value: Any) -> None:
    """M20: however it is given."""
    is_refused(lambda: WriterConfig(**{name: value}), f"WriterConfig.{name}", value)
    is_refused(lambda: WriterConfig.of({name: value}), f"WriterConfig.{name}", value)
    is_refused(lambda: NodeConfig.of({"writer_config": {name: value}}), f"WriterConfig.{name}", value)
    is_refused(lambda: dataclasses.replace(WriterConfig(), **{name: value}), f"WriterConfig.{name}", value)


WRONG_FOR_NODE = [
    *pairs(["batch_size", "parallel_size"], NO_COUNTS),
    *pairs(["idle_timeout"], NO_SECONDS),
    *pairs(["ordered"], NO_FLAGS),
    *pairs(["input_uri", "output_uri"], [5, "", b"x", ["jsonl://x"]]),
    *pairs(["on_error"], ["explode", 1, True, ["fail"]]),
    *pairs(["writer_config"], [5, "fast", [], True]),
]


@pytest.mark.parametrize(("name", "value"), WRONG_FOR_NODE)
def test_a_wrong_node_setting_is_named(name: str, value: Any) -> None:
    """M4: however it is given."""
    is_refused(lambda: NodeConfig(**{name: value}), name, value)
    is_refused(lambda: NodeConfig.of({name: value}), name, value)


@pytest.mark.parametrize("kind", [WriterConfig, NodeConfig])
def test_a_key_that_is_no_setting_is_an_error_that_lists_the_settings(
    kind: type[WriterConfig] | type[NodeConfig],
) -> None:
    """M3: a misspelt setting is not passed over."""
    for key in ("batchsize", 5, None):
        hint = r"did you mean '\w*batch_size'" if key == "batchsize" else r"known are \w+, \w+"
        with pytest.raises(ConfigError, match=rf"has no setting {key!r}; {hint}"):
            kind.of({key: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [5, "x", [("batch_size", 1)], True])
@pytest.mark.parametrize(("kind", "name"), [(WriterConfig, "writer_config"), (NodeConfig, "node_configs")])
def test_settings_are_given_as_a_dict_or_as_what_they_are(kind: Any, name: str, value: Any) -> None:
    """M4: anything else is shown."""
    is_refused(lambda: kind.of(value), f"{name} must be a {kind.__name__} or a dict", value)


def test_settings_that_are_not_given_are_the_defaults() -> None:
    """M20: and a WriterConfig is taken as it is."""
    assert WriterConfig.of(None) == WriterConfig.of({}) == WriterConfig()
    assert NodeConfig.of(None) == NodeConfig.of({}) == NodeConfig()
    config = WriterConfig(queue_size=5, fsync="flush")
    assert WriterConfig.of(config) is config
    assert WriterConfig.of(config.as_dict()) == config
    node = NodeConfig(writer_config=config)
    assert NodeConfig.of(node) is node
    assert NodeConfig.of({"writer_config": config.as_dict()}) == node
    assert NodeConfig(writer_config={"queue_size": 5, "fsync": "flush"}) == node


def test_settings_cannot_be_changed_afterwards() -> None:
    """M2: a blueprint is plain data that stays as it was checked."""
    writer, node = WriterConfig(), NodeConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        writer.queue_size = 0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.batch_size = 0


def test_a_node_says_what_is_not_none() -> None:
    """M4: None is as the pipeline says; False and 0.5 are said."""
    node = NodeConfig(input_uri="a", ordered=False, retry_wait=0.5, rate=None)
    assert node.given() == {"input_uri": "a", "ordered": False, "retry_wait": 0.5}
    assert NodeConfig().given() == {}
    assert dataclasses.replace(node, input_uri=None).given() == {"ordered": False, "retry_wait": 0.5}
    assert pickle.loads(pickle.dumps(node)) == node
    assert node.max_errors is None


def test_a_value_that_is_right_is_returned() -> None:
    """M3: seconds as a float."""
    assert check_count("n", 1) == 1
    assert check_text("n", "x") == "x"
    assert check_flag("n", False) is False
    assert check_choice("n", "path", IdScheme) == "path"
    seconds = check_seconds("n", 2)
    assert seconds == 2.0
    assert isinstance(seconds, float)
