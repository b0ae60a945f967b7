"""Fixtures for all tests; and how many processes run them."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import settings

from llm_datagen.streams import StreamFactory

from .kit.gcs import GcsServer
from .kit.hub import hub  # noqa: F401 - a fixture
from .kit.s3 import S3Bucket, S3Server, StoreServer
from .kit.support import Bench
from .kit.tiers import leave_to_the_nightly_run, nothing_started, table, tier_of

# Tests start hundreds of processes; without its bytecode, each would compile the package for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("untimed", deadline=None)  # the machine may be busy: nothing here is timed
settings.load_profile("untimed")

LONGEST = {
    "test_demo_model.py",
    "test_demo_recipe.py",
    "test_docs.py",
    "test_giving_away.py",
    "test_kill.py",
    "test_ray.py",
    "test_torture.py",
}
"""Where the tests are that take longest."""


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run named files in this process, so that `-s` and a debugger work.

    All others run in two processes more than there are cores: a third of the time, a test waits for another process, a
    clock, or a disk.
    """
    named = (argument.partition("::")[0] for argument in config.invocation_params.args)
    return 0 if any(argument.endswith(".py") for argument in named) else (os.cpu_count() or 1) + 2


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier; begin with the longest, so that none still runs when all others have ended."""
    leave_to_the_nightly_run(items)
    for item in items:
        item.add_marker(tier_of(item))
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what each tier has taken, and may take."""
    reports = [one for kind in terminalreporter.stats.values() for one in kind if isinstance(one, pytest.TestReport)]
    for line in table(reports, max(1, config.getoption("numprocesses", None) or 0)):
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among modules and tests, which all stay: neither while they are collected, nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _tier(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold unit tests to what they are."""
    with nothing_started() if request.node.get_closest_marker("unit") else nullcontext():
        yield


@pytest.fixture(autouse=True)
def _own_protocols() -> Iterator[None]:
    """Forget what a test has registered: processes of later tests would be sent it."""
    known = StreamFactory.registered()
    yield
    StreamFactory._of_users = known


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests a bucket in each of the stores that their mark names; in all but the first they are slow."""
    marker = metafunc.definition.get_closest_marker("stores")
    if "s3" in metafunc.fixturenames and marker is not None:
        first, *others = marker.args
        values = [first, *(pytest.param(scheme, marks=pytest.mark.slow) for scheme in others)]
        metafunc.parametrize("s3", values, indirect=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server for this process; it is started by the first test that needs it."""
    server = S3Server()
    with _warmed_up(server, "s3"):
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """A server for this process; it is started by the first test that needs it."""
    server = GcsServer()
    with _warmed_up(server, "gs"):
        yield server


@contextmanager
def _warmed_up(server: StoreServer, scheme: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        S3Bucket(server, scheme).all_keys()  # threads of the client's library, which stay, are there before tests look
    yield
    server.close()


@pytest.fixture
def s3(
    request: pytest.FixtureRequest, s3_server: S3Server, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Bucket]:
    """An empty bucket of S3 on loopback; the environment says how to reach it. By the parameter gs, one of Google's.

    Both servers are there before a test begins to look at what it leaves open.
    """
    scheme = getattr(request, "param", "s3")
    server: StoreServer = {"s3": s3_server, "gs": gcs_server}[scheme]
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.begin()
    yield S3Bucket(server, scheme)
    server.begin()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A folder to run pipelines in."""
    return Bench(tmp_path)
