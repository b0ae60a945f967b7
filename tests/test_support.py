"""The tools of the tests: what they choose, they choose rightly."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from .kit.gcs import GcsServer
from .kit.support import eventually, nothing_left, pairwise

CHOICES: list[list[Any]] = [["a", "b", "c"], [True, False], [True, False], [1, 4], [None, {"n": 1}]]


def test_each_pair_of_values_is_in_one_of_few_cases() -> None:
    cases = pairwise(*CHOICES)
    assert 6 <= len(cases) <= 8
    for one, other in itertools.combinations(range(len(CHOICES)), 2):
        for pair in itertools.product(CHOICES[one], CHOICES[other]):
            assert any((case[one], case[other]) == pair for case in cases)
    assert cases == pairwise(*CHOICES)


@pytest.fixture
def store() -> Iterator[GcsServer]:
    server = GcsServer()
    yield server
    server.close()


@pytest.mark.integration
def test_a_server_of_objects_keeps_nothing_of_a_connection_that_its_client_resets(store: GcsServer) -> None:
    address = urlsplit(store.endpoint)
    with nothing_left():
        for number in range(10):
            with socket.create_connection((address.hostname, address.port)) as client:
                client.sendall(b"GET /bucket/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
                eventually(lambda: len(store.requests) > number, "it has the request")  # noqa: B023 - called at once
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so it is reset
