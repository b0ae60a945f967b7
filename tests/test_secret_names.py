"""Names of secrets are one list, whatever looks at them: arguments for a run state, and fingerprints."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen.operators.arguments import NotPlainError, stored_arguments
from llm_datagen.operators.fingerprint.data import data_part
from llm_datagen.operators.secret_names import is_secret_name

SECRETS = [
    *("api_key", "apiKey", "APIKey", "x-api-key", "params.api_key", "attribute api_key", "openai_key", "HF_TOKEN"),
    *(
        "token",
        "access_token",
        "password",
        "db_passwd",
        "pwd",
        "passphrase",
        "passcode",
        "pin",
        "auth",
        "Authorization",
    ),
    *("Authorization", "auth_header", "client_secret", "secret_key", "aws_secret_access_key"),
    *("Cookie", "set-cookie", "credentials"),
]
NONE = [
    *(
        "key",
        "sort_key",
        "question_key",
        "keys",
        "max_tokens",
        "tokens",
        "author",
        "monkey",
        "pinned",
        "private",
        "keyword",
    ),
    *("keyword", "api_key_env", "token_limit", "password_column", "secret_file", "", "_"),
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_neither_kept_nor_shown(name: str) -> None:
    assert is_secret_name(name)
    with pytest.raises(NotPlainError, match="literally"):
        stored_arguments(dict, (), {name: "canary"})
    assert "4711" not in str(data_part(name, 4711, shows_text=True))


@pytest.mark.parametrize("name", NONE)
def test_other_names_are_kept(name: str) -> None:
    assert not is_secret_name(name)
    assert stored_arguments(dict, (), {name: "plain"})["with"] == {name: "plain"}


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "limit", "keys", "n"])
def test_a_name_that_can_be_no_secrets_is_shown(name: str) -> None:
    assert str(data_part(name, 4711, shows_text=True)).endswith(" 4711")


@pytest.mark.parametrize("name", ["sort_key", "api_key_env", "token_limit", "private"])
def test_a_name_that_may_be_a_secrets_is_kept_and_not_shown(name: str) -> None:
    stored_arguments(dict, (), {name: "plain"})
    assert "4711" not in str(data_part(name, 4711, shows_text=True))


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        ("https://host/v1?key=abc", False),
        ("https://host/v1?a=1&api-key=abc", False),
        ("https://host/v1?access_token=abc", False),
        ("https://host/v1?auth=abc", False),
        ("https://host/v1?sort_key=abc&page=2", True),
        ("a token=abc of a text", True),
    ],
)
def test_a_url_with_a_secret_in_its_query_is_not_kept(text: str, is_kept: bool) -> None:
    def kept() -> Any:
        return stored_arguments(dict, (), {"url": text})

    if is_kept:
        assert kept()["with"] == {"url": text}
    else:
        with pytest.raises(NotPlainError, match="seems to hold a secret"):
            kept()
