"""Addresses that hold secrets, and settings that are paths of this machine only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, StreamFactory, UnifiedPipeline
from llm_datagen.config import check_local_path, check_path

SECRET = "CANARY/99"
STORE = f"s3://user:{SECRET}@bkt/x"


def same(row: Any) -> Any:
    return row


@pytest.mark.parametrize(
    "settings",
    [
        {"base_path": STORE},
        {"base_path": Path(STORE)},
        {"also": [f"parquet://{STORE}/o.parquet"]},
        {"also": [f"{STORE}/o.parquet"]},
        {"log_file": f"{STORE}/log"},
        {"output_uri": f"{STORE}/o-{{shard:05}}.parquet"},
        {"output_uri": f"{STORE}/o.jsonl".replace("s3:", "S3:")},
        {"input_uri": f"hf://user:{SECRET}@datasets/a/b?split=train"},
        {"input_uri": f"hf://datasets/a/b?split=train&token={SECRET}"},
        {"input_uri": f"https://user:{SECRET}@h/x.jsonl"},
        {"input_uri": f"https://{SECRET.replace('/', '')}@h/x.jsonl"},
        {"input_uri": f"abfs://c:{SECRET}@acc/x.jsonl"},
        {"results_dir": STORE.replace("s3:", "S3:")},
    ],
)
def test_an_address_with_a_secret_is_refused_and_neither_shown_nor_kept(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"n":1}\n')
    given: dict[str, Any] = {"input_uri": "in.jsonl", "output_uri": "out.jsonl", "results_dir": "res", **settings}
    with pytest.raises(ConfigError) as caught:
        UnifiedPipeline([same], **given).create("r")
    assert "CANARY" not in f"{caught.value} {caught.value.__cause__}"
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    "text",
    ["a@b.jsonl", "jsonl://a:b@c.jsonl", "hf://org/name@main/x.jsonl", "t.parquet?columns=token", "s3://b/k@1:2"],
)
def test_what_only_looks_like_one_is_taken(text: str) -> None:
    assert check_path("x", text) == text


@pytest.mark.parametrize("text", ["s3://b/x", "S3://b/x", "file:///x", "s3:/b/x"])
def test_a_uri_is_no_path_of_this_machine(text: str) -> None:
    with pytest.raises(ConfigError, match="a URI; it lies on this machine only"):
        check_local_path("log_file", text)


def test_a_scheme_that_is_not_known_is_named_without_a_user() -> None:
    with pytest.raises(ConfigError, match=r"'https://…@h/x.jsonl': the protocol https:// is not known"):
        StreamFactory.create("https://hidden@h/x.jsonl")
