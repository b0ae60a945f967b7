"""Who is answered: by token, cookie, Host and Origin; and what browsers may do with an answer."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.web.server import Server

from ..kit.support import Bench, numbered
from ..kit.web import TOKEN, serving

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.fixture
def runs(bench: Bench) -> Path:
    """A folder with a run."""
    bench.give(numbered(3))
    bench.pipeline([lambda item: item]).create("one").run(progress=False)
    return bench.results


def test_only_the_token_opens_what_is_about_runs(runs: Path) -> None:
    with serving(runs) as client:
        paths = ("/api/server", "/api/runs", "/api/runs/0.one", "/api/events", "/api/nothing", "/metrics", "/x")
        for path in paths:
            for wrong in (None, "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xe9"):
                answer = client.ask(path, Authorization=wrong)
                assert (answer.status, list(answer.json)) == (401, ["error"]), (path, wrong)
        assert client.ask("/api/runs", Authorization=None, Cookie=f"llm_datagen_{client.port}={TOKEN}").status == 401
        assert client.get("/api/server") == {"version": "0.1.0", "read_only": False, "folders": [str(runs)]}
        assert client.ask("/", Authorization=None).status == 200


def test_the_token_is_exchanged_for_a_cookie_that_other_sites_cannot_use(runs: Path) -> None:
    with serving(runs) as client:
        origin = f"http://127.0.0.1:{client.port}"
        page: dict[str, Any] = {"Authorization": None, "Origin": origin}
        others: list[Any] = [{"token": "x"}, {"token": 1}, {}, [], None, b"[" * 60_000, b'{"token": "\\ud800"}']
        for wrong in others:
            answer = client.post("/api/session", wrong, **page)
            assert answer.status in {400, 401}
            assert "set-cookie" not in answer.headers
        answer = client.post("/api/session", {"token": TOKEN}, **page)
        assert (answer.status, answer.body) == (204, b"")
        cookie, *attributes = answer.headers["set-cookie"].split("; ")
        assert cookie.startswith(f"llm_datagen_{client.port}=")
        assert TOKEN not in cookie
        assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
        assert client.ask("/api/runs", Authorization=None, Cookie=cookie).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_another_host_is_refused_even_with_the_token(runs: Path, host: str) -> None:
    with serving(runs) as client:
        for path in ("/", "/api/runs"):
            answer = client.ask(path, Host=host.format(port=client.port))
            assert (answer.status, list(answer.json)) == (421, ["error"])
        for known in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
            assert client.ask("/api/runs", Host=f"{known}:{client.port}").status == 200


def test_other_origins_and_forms_are_refused(runs: Path) -> None:
    with serving(runs) as client:
        own = f"http://127.0.0.1:{client.port}"
        for origin in ("null", "http://evil.example", "http://127.0.0.1", f"https://127.0.0.1:{client.port}"):
            assert client.ask("/api/runs", Origin=origin).status == 403
            assert client.post("/api/session", {"token": TOKEN}, Origin=origin).status == 403
        assert client.ask("/api/runs", Origin=own).status == 200
        for site in ("cross-site", "same-site", "new"):  # an image, or a script, of another page sends no Origin
            assert client.ask("/api/runs", Sec_Fetch_Site=site).status == 403
            assert client.ask("/", Sec_Fetch_Site=site).status == 200  # somebody has linked to the page
        for site in ("same-origin", "none"):
            assert client.ask("/api/runs", Sec_Fetch_Site=site).status == 200
        assert client.post("/api/session", {"token": TOKEN}, Authorization=None).status == 403  # and no Origin
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
            body = b'{"token": "%s"}' % TOKEN.encode()
            answer = client.ask("/api/session", method="POST", body=body, Origin=own, Content_Type=kind)
            assert answer.status == 415


def test_no_answer_goes_without_its_headers(runs: Path) -> None:
    with serving(runs) as client:
        asked = [
            client.ask("/"),
            client.ask("/api/runs"),
            client.ask("/api/nothing"),
            client.ask("/api/runs", Authorization=None),
            client.ask("/api/runs", Host="evil.example"),
            client.ask("/api/runs", method="DELETE"),
            client.ask("/api/runs", method="OPTIONS", Origin="http://evil.example"),
            client.post("/api/session", b"x" * (1 << 17)),
        ]
        assert [answer.status for answer in asked] == [200, 200, 404, 401, 421, 405, 403, 413]
        for answer in asked:
            assert answer.headers["content-security-policy"] == CSP
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert not [name for name in answer.headers if name.startswith("access-control")]
        assert [answer.headers["cache-control"] for answer in asked[:2]] == ["no-cache", "no-store"]
        assert asked[0].headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"host": "0.0.0.0"}, "give a token"),
        ({"host": "192.0.2.1"}, "give a token"),
        ({"token": "0123456789abcde"}, "16 printable ASCII"),
        ({"token": "0123456789abcdef\n"}, "16 printable ASCII"),
        ({"port": 70000}, "--port must be"),
        ({"host": "no.such.host.invalid", "token": TOKEN}, "cannot listen at"),
    ],
)
def test_a_server_that_others_reach_needs_a_token(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Server([tmp_path], **options)


def test_a_server_that_listens_everywhere_names_the_machine(tmp_path: Path) -> None:
    server = Server([tmp_path], host="0.0.0.0", token=TOKEN)
    server.close()
    assert server.url.startswith(f"http://{socket.gethostname()}:")
    with serving(tmp_path, host="0.0.0.0") as client:
        for name, status in (
            (socket.gethostname(), 200),
            ("127.0.0.1", 200),
            ("192.0.2.1", 421),
            ("evil.example", 421),
        ):
            assert client.ask("/api/runs", Host=f"{name}:{client.port}").status == status


def test_each_server_has_a_token_of_its_own_and_only_its_fragment_says_it(tmp_path: Path) -> None:
    urls = []
    for _ in range(2):
        server = Server([tmp_path])
        server.close()
        urls.append(server.url)
    tokens = [url.partition("/#token=")[2] for url in urls]
    assert len({*tokens}) == 2
    assert min(map(len, tokens)) >= 43
