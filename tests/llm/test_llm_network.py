"""The way to an endpoint: its URL as people paste it, proxies and certificates of the environment, and no .netrc."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import EndpointRefusedError, LLMOperator, LLMRequestError
from llm_datagen.llm.http.adapters import adapter_of
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.network import CA_VARIABLES, proxy_of, trusted_certificates

from .chat_server import ChatServer, Reply, run_rows, serve

ROW = {"_i": 0, "q": "x"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everybody's proxies and certificates out of the environment."""
    for name in (*PROXIES, *(each.upper() for each in PROXIES), *CA_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("base_url", "adapter", "calls_go_to"),
    [
        ("https://h/v1 ", "openai", "https://h/v1/chat/completions"),
        ("\thttps://h/v1/\n", "openai", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions", "openai", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions/", "openai", "https://h/v1/chat/completions"),
        ("HTTPS://H/v1", "openai", "https://h/v1/chat/completions"),
        ("https://h/d/chat/completions?api-version=1", "openai", "https://h/d/chat/completions?api-version=1"),
        ("https://h", "anthropic", "https://h/v1/messages"),
        ("https://h/v1", "anthropic", "https://h/v1/messages"),
        ("https://h/v1/messages", "anthropic", "https://h/v1/messages"),
        ("https://h/gate", "anthropic", "https://h/gate/v1/messages"),
    ],
)
def test_a_base_url_is_understood_as_it_is_pasted(base_url: str, adapter: str, calls_go_to: str) -> None:
    assert str(Address(base_url, adapter_of(adapter), "m").url) == calls_go_to


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        ("https://h/v1/completions", "ends in '/completions'.*leave '/completions' out"),
        ("https://h/v1/responses", "ends in '/responses'"),
        ("https://h/v1#top", "holds a '#'"),
        ("https://h/v 1", "blanks or characters that do not show"),
        ("https://h/v1\u200b", r"characters that do not show: 'https://h/v1\\u200b'"),
        ("'https://h/v1'", "must start with http:// or https://"),
        ("h:8000/v1", "must start with http:// or https://"),
        ("localhost", "must start with"),
        ("https://", "must start with"),
        (7, "base_url must be a text, not 7"),
    ],
)
def test_a_base_url_that_cannot_be_meant_is_refused_by_name(base_url: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLMOperator("hi", model="m", base_url=base_url)


@pytest.mark.integration
def test_a_netrc_is_not_read_with_a_key_or_without(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\nmachine far login me password x\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1"))
    rows = [
        asyncio.run(run_rows(server.operator(api_key=key, base_url=base_url), [ROW]))
        for key in (None, "the-key")
        for base_url in (server.base_url, "http://far/v1")  # the second one by the proxy
    ]
    assert rows == [[{**ROW, "answer": "yes"}]] * 4
    assert [seen.headers.get("authorization") for seen in server.seen] == [None, None, *["Bearer the-key"] * 2]


@pytest.mark.integration
def test_a_proxy_of_the_environment_is_used_with_its_password_and_not_for_this_machine(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.base_url.replace("http://", "http://me:s3cret-word@").removesuffix("/v1"))
    asyncio.run(run_rows(server.operator(base_url="http://far.example:81/v1"), [ROW]))
    asyncio.run(run_rows(server.operator(), [ROW]))
    assert [seen.path for seen in server.seen] == ["http://far.example:81/v1/chat/completions", "/v1/chat/completions"]
    assert server.seen[0].headers["proxy-authorization"] == "Basic bWU6czNjcmV0LXdvcmQ="
    assert "proxy-authorization" not in server.seen[1].headers
    server.reply = lambda seen: Reply(f"denied: {seen.headers['proxy-authorization']} s3cret-word", 403)
    with pytest.raises(LLMRequestError) as caught:
        asyncio.run(run_rows(server.operator(base_url="http://far.example:81/v1"), [ROW]))
    assert "denied" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "bWU6czNjcmV0" not in str(caught.value)


@pytest.mark.integration
def test_a_tunnel_through_a_proxy_is_asked_for_with_the_password_and_its_no_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def deny() -> None:
            for _ in range(2):  # the call, and a ping
                client, _ = listening.accept()
                with client:
                    heads.append(client.recv(1 << 16).decode())
                    client.sendall(b"HTTP/1.1 407 no bWU6czNjcmV0LXdvcmQ= s3cret-word\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=deny)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret-word@127.0.0.1:{listening.getsockname()[1]}")
        operator = LLMOperator(
            "hi", model="m", base_url="https://far.example/v1", api_key="the-long-key", outage_after=0, max_retries=0
        )
        with pytest.raises(EndpointRefusedError, match=r"proxy of the environment refused: 407.*\*\*\*") as caught:
            asyncio.run(run_rows(operator, [ROW]))
        thread.join()
    assert heads[0].startswith("CONNECT far.example:443 HTTP/1.1")
    assert "Proxy-Authorization: Basic bWU6czNjcmV0LXdvcmQ=" in heads[0]
    assert "the-long-key" not in heads[0]
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown
    assert "czNjcmV0" not in shown


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"https_proxy": "p:1"}, "http://p:1"),
        ({"all_proxy": "http://p:1"}, "http://p:1"),
        ({"http_proxy": "http://p:1"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "example"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "other"}, "http://p:1"),
    ],
)
def test_the_proxy_is_that_of_the_environment(
    environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_of(Address("https://far.example/v1"))
    assert (found and str(found.url)) == proxy


@pytest.mark.parametrize(
    ("proxy", "told"),
    [("http://me:hunter2@p:1", "me:hunter2"), ("http://:hunter2@p:1", ":hunter2"), ("http://me@p:1", "me:")],
)
def test_user_and_password_of_a_proxy_are_told_to_it_alone(
    proxy: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    found = proxy_of(Address("https://far.example/v1"))
    assert found is not None
    assert str(found.url) == "http://p:1"
    assert found.headers == {"Proxy-Authorization": f"Basic {base64.b64encode(told.encode()).decode()}"}
    assert found.password == told.partition(":")[2]


@pytest.mark.parametrize("proxy", ["socks5://me:hunter2@p:1", "http://", "ftp://p"])
def test_a_proxy_that_cannot_be_used_is_refused_by_name_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(ConfigError, match=r"all_proxy cannot be used: .*name far\.example in no_proxy") as caught:
        proxy_of(Address("https://far.example/v1"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.process
@pytest.mark.parametrize("name", CA_VARIABLES)
def test_certificates_that_the_environment_names_are_trusted(
    name: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = ChatServer()
    http = serve(chat)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    base_url = chat.base_url.replace("http:", "https:")
    operator = chat.operator(base_url=base_url)
    with pytest.raises(LLMRequestError, match=r"certificate verify failed.* certificates to trust in SSL_CERT_FILE"):
        asyncio.run(run_rows(operator, [ROW]))
    monkeypatch.setenv(name, str(certificate[0]))
    assert asyncio.run(run_rows(operator, [ROW])) == [{**ROW, "answer": "yes"}]
    threading.Thread(target=http.shutdown).start()
    http.server_close()


def test_the_first_variable_counts_and_a_file_that_is_none_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=r"missing\.pem, the cert.* REQUESTS_CA_BUNDLE names, cannot be used"):
        trusted_certificates()
    (tmp_path / "text.pem").write_text("no certificate")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "text.pem"))
    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"):
        trusted_certificates()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert len(trusted_certificates().get_ca_certs()) == 1
