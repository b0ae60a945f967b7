"""Diagrams of a pipeline: streams, the nodes between them, and exports, as text and as a Mermaid flowchart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from llm_datagen.config import check_choice
from llm_datagen.operators.references import parallel_size_of
from llm_datagen.runs.export_entries import KEY
from llm_datagen.runs.output_node import output_of
from llm_datagen.runs.topology import stream_key
from llm_datagen.streams import inputs_of

DiagramFormat = Literal["text", "mermaid"]
"""The form of a diagram."""

_Node = Mapping[str, Any]

_PLAIN = re.compile(r"[^\W_]|[/:=,() ]|(?<=[^\W_])[._-](?=[^\W_])")
"""A character that Mermaid takes as it is in a quoted label, and not as markup."""


def draw(run_state: Mapping[str, Any], format: DiagramFormat = "text") -> str:
    """Return a diagram of the nodes, streams and exports in a run state. Each stream is in it once. Opens no stream.

    Args:
        run_state: the run state; only its `config`, its `nodes` and its `exports` are used.
        format: "text": a line per node and a line per stream, indented where several nodes read the same stream. A node
            that reads several is drawn below the last of them, and named below the others.
            "mermaid": a flowchart in the language of Mermaid.

    Raises:
        ConfigError: when `format` is another one.
    """
    check_choice("format", format, DiagramFormat)
    if format == "mermaid":
        return "\n".join(_mermaid(run_state))
    return "\n".join(_text(run_state, streaming=bool(run_state["config"]["streaming"])))


def _of(node: Mapping[str, Any]) -> str:
    used = parallel_size_of(node)
    why = " as it keeps state" if used < node["parallel_size"] else ""
    return f"parallel_size={used}{why}, batch_size={node['batch_size']}"


def _text(run_state: Mapping[str, Any], *, streaming: bool) -> Iterator[str]:
    nodes = run_state["nodes"]
    exports = list(run_state.get(KEY) or ())
    exported = stream_key(output_of(run_state)["output_uri"]) if exports else None
    yield "streaming: all nodes at once" if streaming else "one node after the other"
    readers: dict[Any, list[tuple[str, _Node]]] = {}
    roots: dict[Any, str] = {}
    missing = {}  # of each node, how many of its inputs were not drawn yet
    written = {stream_key(node["output_uri"]) for node in nodes}
    for node in nodes:
        inputs = inputs_of(node["input_uri"])
        missing[node["node_id"]] = len(inputs)
        for name, uri in inputs.items():
            readers.setdefault(stream_key(uri), []).append((name, node))
            if stream_key(uri) not in written:
                roots.setdefault(stream_key(uri), uri)
    for key, uri in roots.items():
        yield _visible(uri)
        waiting = _branches(readers.get(key, []), "")
        while waiting:
            head, inner, node = waiting.pop()
            missing[node["node_id"]] -= 1
            if missing[node["node_id"]]:
                yield f"{head}, below"
                continue
            yield f"{head}: {_visible(node['operator'])} ({_of(node)})"
            yield f"{inner}{_visible(node['output_uri'])}"
            written_key = stream_key(node["output_uri"])
            found = readers.get(written_key, [])
            made = exports if written_key == exported else []
            for number, export in enumerate(made, 1):
                branch, _ = _branch(inner, number, len(made) + len(found))
                yield f"{branch}export, at the end: {_visible(export['path'])} ({export['kind']})"
            waiting += _branches(found, inner, len(made))


def _branches(found: list[tuple[str, _Node]], indent: str, before: int = 0) -> list[tuple[str, str, _Node]]:
    """Return the readers of a stream, the first one last: how their line begins, what lines below begin with, the node.

    Args:
        found: the readers; and the stream's name there, if there are several.
        indent: what lines begin with here.
        before: how many branches were drawn here already.
    """
    branches = []
    for number, (name, node) in enumerate(found, before + 1):
        branch, inner = _branch(indent, number, before + len(found))
        here = f" [{_visible(name)}]" if name else ""
        branches.append((f"{branch}{_visible(node['node_id'])}{here}", inner, node))
    return branches[::-1]


def _branch(indent: str, number: int, count: int) -> tuple[str, str]:
    """Return how the line of a branch begins, and the lines below it: it is one of `count`, from 1."""
    if count == 1:
        return f"{indent}↓ ", indent
    return (f"{indent}└─ ", f"{indent}   ") if number == count else (f"{indent}├─ ", f"{indent}│  ")


def _mermaid(run_state: Mapping[str, Any]) -> Iterator[str]:
    nodes = run_state["nodes"]
    yield "flowchart TD"
    names: dict[Any, str] = {}
    for node in nodes:
        for uri in (*inputs_of(node["input_uri"]).values(), node["output_uri"]):
            key = stream_key(uri)
            if key not in names:
                names[key] = f"stream{len(names)}"
                yield f'    {names[key]}[("{_label(uri)}")]'
    for number, node in enumerate(nodes):
        title = _label(f"{node['node_id']}: {node['operator']}")
        yield f'    node{number}["{title}<br/>{_label(_of(node))}"]'
        *others, (last, uri) = inputs_of(node["input_uri"]).items()
        for name, other in others:
            yield f"    {names[stream_key(other)]} {_arrow(name)} node{number}"
        yield f"    {names[stream_key(uri)]} {_arrow(last)} node{number} --> {names[stream_key(node['output_uri'])]}"
    for number, export in enumerate(run_state.get(KEY) or ()):
        source = names[stream_key(output_of(run_state)["output_uri"])]
        made = f'export{number}[("{_label(export["path"])}")]'
        yield f"    {source} {_arrow('export: ' + export['kind'])} {made}"


def _arrow(name: str) -> str:
    return f'-- "{_label(name)}" -->' if name else "-->"


def _visible(text: str) -> str:
    """Return text on one line: what cannot be printed is written as Python writes it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _label(text: str) -> str:
    """Return text for a quoted label. Quotes, markup and markdown are written as codes, as in ``#34;``."""
    text = _visible(text)
    text = "".join(c if _PLAIN.match(text, at) else f"#{ord(c)};" for at, c in enumerate(text))
    return text.replace("style", "#115;tyle").replace("classDef", "#99;lassDef")  # Mermaid splits codes behind them
