"""Options of Ray on the command line: what is wrong with them is said before a run is made."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen import ConfigError
from llm_datagen.cli.sharded import ShardOptions
from llm_datagen.shards.ray import RayExecutor


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ray_address": "auto"}, "--ray-address is for shards on Ray: give --executor ray, too"),
        ({"executor": "local", "resources": "{}"}, "--resources is for shards on Ray: give --executor ray, too"),
        ({"executor": "ray", "resources": "2"}, "--resources must be an object in JSON, such as .*, got '2'"),
        ({"executor": "ray", "resources": "{num_cpus: 2}"}, "--resources '{num_cpus: 2}' is no JSON: "),
        ({"executor": "ray", "resources": '{"num_cpus": "2"}'}, "resources: 'num_cpus' must be a number from 0"),
        ({"executor": "ray", "runtime_env": "[]"}, "--runtime-env must be an object in JSON"),
    ],
)
def test_a_wrong_option_of_ray_is_refused_by_name(
    options: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=text):
        ShardOptions(shards=2, **options).who()


def test_options_of_ray_are_for_a_run_in_shards() -> None:
    with pytest.raises(ConfigError, match="--runtime-env is for a run in shards: give --shards N, too"):
        ShardOptions(runtime_env="{}").refuse_without_shards()


def test_options_of_ray_make_an_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    options = ShardOptions(shards=2, executor="ray", workers=3, ray_address="auto", resources='{"num_cpus": 2}')
    executor = options.who()
    assert isinstance(executor, RayExecutor)
    assert executor.workers == 3
    assert ShardOptions(shards=2).who() == ShardOptions(shards=2, executor="none").who() == "local"
