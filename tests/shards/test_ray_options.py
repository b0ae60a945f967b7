"""What a Ray executor is told is checked before anything is started."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, NodeFailedError
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.ray import RayExecutor
from llm_datagen.shards.ray.address import address_towards
from llm_datagen.shards.ray.options import Needs

from ..kit.shards import InThreads, rows_in_shards
from ..kit.support import Bench, nothing_left, numbered


@pytest.fixture(autouse=True)
def _ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray seems to be installed: what is tested here does not use it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def test_resources_are_named_as_those_of_an_actor_and_all_others_are_custom() -> None:
    needs = Needs.of({"num_cpus": 2, "num_gpus": 0.5, "memory": 8e9, "licence": 1})
    assert needs.actor_options() == {"num_cpus": 2, "num_gpus": 0.5, "memory": 8e9, "resources": {"licence": 1}}
    assert str(needs) == "num_cpus=2, num_gpus=0.5, memory=8e+09, licence=1"
    assert Needs.of(None).actor_options() == {"num_cpus": 1.0, "num_gpus": 0.0, "memory": None, "resources": None}


def test_nodes_reach_the_driver_by_the_name_that_they_are_told_and_those_of_this_machine_need_none() -> None:
    assert address_towards("127.0.0.1:6379") is None
    assert address_towards("ray://127.0.0.1:10001") is None
    assert RayExecutor("local").host is None
    assert RayExecutor("ray://127.0.0.1:10001", host="driver.example.org").host == "driver.example.org"


@pytest.mark.parametrize(
    ("node", "fits"),
    [
        ({"CPU": 2.0, "licence": 1.0}, True),
        ({"CPU": 1.0, "licence": 1.0}, False),
        ({"CPU": 2.0}, False),
        ({"licence": 1.0}, False),
    ],
)
def test_needs_fit_a_node_that_has_all_of_them(node: dict[str, float], fits: bool) -> None:
    assert Needs.of({"num_cpus": 2, "licence": 1}).fit(node) is fits


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resources": [2]}, r"resources must be an object such as \{'num_cpus': 2\}, got \[2\]"),
        ({"resources": {"num_cpus": -1}}, "resources: 'num_cpus' must be a number from 0, got -1"),
        ({"resources": {"num_cpus": True}}, "resources: 'num_cpus' must be a number from 0, got True"),
        ({"resources": {"licence": "1"}}, "resources: 'licence' must be a number from 0, got '1'"),
        ({"resources": {"CPU": 2}}, "resources: CPU is named num_cpus here"),
        ({"resources": {"GPU": 2}}, "resources: GPU is named num_gpus here"),
        ({"runtime_env": "."}, r"runtime_env must be an object such as \{'working_dir': '\.'\}, got '\.'"),
        ({"workers": 0}, "workers"),
        ({"lost_seconds": 0}, "lost_seconds"),
        ({"address": ""}, "address"),
        ({"shows_output": 1}, "shows_output"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        RayExecutor(**options)


def test_without_ray_the_executor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else name)
    with pytest.raises(ConfigError, match=r"executor='ray' needs Ray: pip install 'llm-datagen\[ray\]'"):
        RayExecutor()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("ray://127.0.0.1:1", r"no Ray cluster answers at ray://127\.0\.0\.1:1: .*refused"),
        (
            "127.0.0.1:1",
            r"no Ray cluster answers at 127\.0\.0\.1:1: .*; from a machine that is no node of it, the address",
        ),
        ("somewhere", "'somewhere' is no address of a Ray cluster: ray://host:10001 or host:6379 is"),
        ("127.0.0.1:port", r"'127\.0\.0\.1:port' is no address of a Ray cluster"),
    ],
)
def test_where_no_cluster_is_the_run_fails_and_goes_on_later(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, text: str
) -> None:
    """The run is there, and no shard is begun; nothing was started for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "ray", raising=False)  # another test may have imported it
    bench.give(numbered(9))
    with nothing_left():
        whole = ShardedPipeline(bench.pipeline([same]), shards=3, executor=RayExecutor(address)).create("a")
        with pytest.raises(NodeFailedError, match=text):
            whole.run(progress=False)
    assert "ray" not in sys.modules, "the driver's process knows Ray"
    ShardedPipeline(bench.pipeline([same]), shards=3, executor=InThreads()).create("a", if_exists="resume").run()
    assert [row["n"] for row in rows_in_shards(bench, "a", "node_0")] == list(range(9))


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row
