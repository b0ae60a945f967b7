"""Messages: several turns, those of the row, images."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator, PromptError
from llm_datagen.llm.prompts.images import MAX_IMAGE_BYTES
from llm_datagen.operators.fingerprint import changed_parts

from .chat_server import ChatServer, run_rows

PNG = b"\x89PNG\r\n\x1a\n and so on"


def run(operator: Any, *items: Any) -> list[Any]:
    return asyncio.run(run_rows(operator, list(items)))


def sent(server: ChatServer) -> Any:
    return server.seen[-1].body["messages"]


def say(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_prompt_of_several_turns_is_rendered_turn_by_turn(server: ChatServer) -> None:
    prompt = [
        say("system", "Row {{ _i }}"),
        say("user", "{{ q }}"),
        say("assistant", "no"),
        say("user", "why {{ q }}?"),
    ]
    example = {"item": {"q": "e"}, "answer": "because"}
    run(server.operator(prompt, examples=[example]), {"_i": 1, "q": "x"})
    assert sent(server) == [
        say("system", "Row 1"),
        *[say("user", "e"), say("assistant", "no"), say("user", "why e?"), say("assistant", "because")],
        *[say("user", "x"), say("assistant", "no"), say("user", "why x?")],
    ]
    with pytest.raises(PromptError, match=r"the prompt's message 2 of row 7 uses an undefined name: 'q' is undefined"):
        run(server.operator(prompt), {"_i": 7})


def test_a_placeholder_stands_for_the_messages_of_the_row_as_they_are(server: ChatServer) -> None:
    held = [
        say("system", "Be kind"),
        say("user", "{{ 1 + 1 }}"),
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    prompt = [{"placeholder": "messages"}, say("user", "{{ ask }}")]
    rows = run(server.operator(prompt, output="next"), {"_i": 0, "messages": held, "ask": "Go on"})
    assert sent(server) == [*held, say("user", "Go on")]
    assert rows == [{"_i": 0, "messages": held, "ask": "Go on", "next": "yes"}]
    run(server.operator([{"placeholder": "data"}]), held)
    assert sent(server) == held
    example = {"item": {"messages": held[1:2], "ask": "a"}, "answer": "b"}
    run(server.operator(prompt, examples=[example]), {"_i": 0, "messages": held[:2], "ask": "c"})
    assert sent(server) == [held[0], held[1], say("user", "a"), say("assistant", "b"), held[1], say("user", "c")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "the prompt of row 3 lacks its field 'messages'; the row has: _i"),
        ({"messages": None}, "messages of row 3 must be a list of messages, not null"),
        ({"messages": ["hi"]}, "message 1 in messages of row 3 must be an object"),
        ({"messages": [say("user", "a"), say("robot", "b")]}, "message 2 in messages of row 3 .* roles system"),
        ({"messages": [say("user", 3)]}, "message 1 in messages of row 3 must have a content"),
        ({"messages": []}, "the prompt of row 3 has no message"),
    ],
)
def test_messages_of_a_row_that_cannot_be_sent_are_an_error(server: ChatServer, row: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        run(server.operator([{"placeholder": "messages"}]), {"_i": 3, **row})
    assert server.seen == []


def test_images_are_sent_by_url_or_read_from_their_files(server: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(PNG)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "link.jpg").symlink_to("b.jpg")
    row = {"_i": 0, "q": "Which?", "photos": ["HTTPS://Example.org/1.png", str(tmp_path / "b.jpg")]}
    root = {"image_root": str(tmp_path)}
    images = ["{{ photos | join('\n') }}", "./{{ 'a' }}.dat", " "]
    run(server.operator(images=images[:2], examples=[{"item": row, "answer": "a"}], **root), row)
    parts = [
        {"type": "text", "text": "Which?"},
        *(
            {"type": "image_url", "image_url": {"url": url}}
            for url in (
                "https://Example.org/1.png",
                "data:image/jpeg;base64,/9j/4A==",
                f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
            )
        ),
    ]
    assert sent(server) == [say("user", parts), say("assistant", "a"), say("user", parts)]
    run(server.operator([{**say("user", "{{ q }}"), "images": ["{{ photos[1] }}"]}], **root), row)
    assert sent(server) == [say("user", [parts[0], parts[2]])]
    held = [say("user", [{"type": "image_url", "image_url": {"url": str(tmp_path / "b.jpg"), "detail": "low"}}])]
    run(server.operator([{"placeholder": "messages"}], **root), {"_i": 0, "messages": held})
    assert sent(server)[0]["content"][0]["image_url"] == {"url": "data:image/jpeg;base64,/9j/4A==", "detail": "low"}
    for place, url in {
        "link.jpg": "data:image/jpeg;base64,/9j/4A==",
        "DATA:image/png;base64,AA": "data:image/png;base64,AA",
    }.items():
        run(server.operator(images=["{{ q }}"], **root), {"q": place})
        assert sent(server)[0]["content"][1]["image_url"] == {"url": url}
    run(server.operator(images=["{{ q }}"], image_root="/"), {"q": str(tmp_path / "b.jpg")})
    assert sent(server)[0]["content"][1]["image_url"] == {"url": "data:image/jpeg;base64,/9j/4A=="}


@pytest.mark.parametrize("place", ["secret.png", "{out}/secret.png", "../out/secret.png", "link.png", "sub/secret.png"])
def test_a_row_sends_no_file_that_lies_outside_of_the_image_root(
    server: ChatServer, tmp_path: Path, place: str
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    (out / "secret.png").write_bytes(PNG)
    (root / "link.png").symlink_to(out / "secret.png")
    (root / "sub").symlink_to(out)
    where = place.format(out=out)
    held = [say("user", [{"type": "image_url", "image_url": {"url": where}}])]
    for operator in (server.operator(images=["{{ photo }}"]), server.operator([{"placeholder": "messages"}])):
        with pytest.raises(PromptError, match="rows may name none: set image_root to the folder"):
            run(operator, {"_i": 5, "q": "x", "photo": where, "messages": held})
    for operator in (
        server.operator(images=["{{ photo }}"], image_root=str(root)),
        server.operator([{"placeholder": "messages"}], image_root=str(root)),
    ):
        with pytest.raises(PromptError, match=r"of row 5 (does not lie in image_root|cannot be read: No such file)"):
            run(operator, {"_i": 5, "q": "x", "photo": where, "messages": held})
    assert server.seen == []


def test_an_image_root_is_a_folder_and_does_not_move_with_the_process(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    operator = server.operator(images=["{{ q }}"], image_root="photos")
    monkeypatch.chdir("/")
    run(operator, {"q": "a.png"})
    assert sent(server)[0]["content"][1]["image_url"]["url"].startswith("data:image/png")
    missing = str(tmp_path / "no")
    for root, message in (("", "must be the path"), (missing, "No such file"), (__file__, "is not a folder")):
        with pytest.raises(ConfigError, match=message):
            server.operator(image_root=root)


def test_an_image_that_cannot_be_sent_is_an_error_that_names_row_and_path(server: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    for name, message in {
        "missing.png": "cannot be read: No such file",
        "text.png": "is none of PNG",
        "large.png": r"has 20971521 bytes: 20971520 may be sent",
        "": "cannot be read: Is a directory",
        "nul\0.png": "cannot be read",
    }.items():
        path = str(tmp_path / name)
        with pytest.raises(PromptError, match=message) as caught:
            run(server.operator(images=["{{ photo }}"], image_root=str(tmp_path)), {"_i": 5, "q": "x", "photo": path})
        assert repr(path) in str(caught.value)
        assert "row 5" in str(caught.value)
    for place in ("ftp://x/a.png", "FILE:///etc/passwd", "file:/etc/passwd", "HTTPX://x"):
        with pytest.raises(PromptError, match="neither an http"):
            run(server.operator(images=["{{ q }}"], image_root="/"), {"_i": 5, "q": place})
    assert server.seen == []


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "prompt has no message"),
        (3, {}, "prompt must be a text"),
        (["hi"], {}, "message 1 of prompt must be a dict of 'role'"),
        ([say("user", "a"), say("robot", "b")], {}, "message 2 of prompt must be a dict"),
        ([{**say("user", "a"), "text": "b"}], {}, "message 1 of prompt must be a dict"),
        ([say("user", ["a"])], {}, "prompt's message 1 must be a text"),
        ([say("user", "{{")], {}, "prompt's message 1 is not a Jinja2 template"),
        ([{"placeholder": ""}], {}, "'placeholder', the field"),
        ([say("system", "a"), say("user", "b")], {"system": "c"}, "give one of the two"),
        ([say("user", "b")], {"images": ["a"]}, "give them to a message"),
        ("a", {"images": "photo"}, "images of prompt must be a list"),
        ("a", {"images": ["{{"]}, "image of prompt is not a Jinja2 template"),
    ],
)
def test_a_wrong_prompt_is_refused_at_construction(prompt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLMOperator(prompt, model="m", **options)


def test_what_is_in_the_image_files_of_all_rows_is_part_of_the_fingerprint(server: ChatServer, tmp_path: Path) -> None:
    """12.2.1: a picture that was exchanged under its name went into half of the rows."""
    logo, shown = tmp_path / "logo.png", tmp_path / "shown.png"
    logo.write_bytes(PNG)
    shown.write_bytes(PNG + b"1")

    def operator() -> LLMOperator:
        images = ["logo.png", "{{ own }}", "https://example.com/a.png", "gone.png"]
        examples = [{"item": {"q": "x", "own": "shown.png"}, "answer": "a"}]
        return server.operator(images=images, examples=examples, image_root=str(tmp_path))

    before, again = operator().fingerprint(), operator()
    files = {name: value for name, value in before.items() if name.startswith("image file ")}
    assert list(files) == ["image file logo.png", "image file gone.png", "image file shown.png"]
    assert [value is None for value in files.values()] == [False, True, False]
    assert again.fingerprint() == before
    logo.write_bytes(PNG + b"2")
    assert changed_parts(before, again.fingerprint()) == ["image file logo.png"]
    shown.write_bytes(PNG + b"3")
    assert changed_parts(before, again.fingerprint()) == ["image file logo.png", "image file shown.png"]
    older = {name: value for name, value in before.items() if name not in files}
    assert changed_parts(older, again.fingerprint()) == []  # it cannot be told
    logo.unlink()
    assert changed_parts(before, again.fingerprint()) == ["image file shown.png"]


def test_without_a_folder_of_images_no_file_is_read_for_a_fingerprint(server: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    operator = server.operator(images=[str(tmp_path / "a.png")])
    assert [name for name in operator.fingerprint() if name.startswith("image file ")] == []
