"""The wires of a graph in a pipeline file: what `from` and `to` name, and whether it fits together. Nothing is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from llm_datagen.cli.yaml_nodes import INPUT, OUTPUT, GraphPart, NodePart
from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.pipeline.spool import is_standard
from llm_datagen.runs.exports import is_export
from llm_datagen.streams import Place, StreamFactory

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

_MOST_PROBLEMS = 20
"""After so many, no more are looked for."""

Outputs = Mapping[str, str | None]
"""The outputs of a node by their names, the name of a single one is empty: the URI, or None, where the run has it."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What a node reads: the output of a node, or a stream that the file names.

    Attributes:
        node: the name of the node that writes it; empty for a stream that the file names.
        output: the name of its output; empty if it has but one.
        uri: the stream that the file names.
    """

    node: str = ""
    output: str = ""
    uri: str = ""


class Wires:
    """The wires between the nodes of a file.

    Args:
        spec: what the file says.

    Attributes:
        problems: what is wrong, each with the path of its key in front.
        outputs: the outputs of each node.
    """

    def __init__(self, spec: GraphPart) -> None:
        self._spec = spec
        self.problems: list[str] = []
        self.outputs: dict[str, Outputs] = {}
        self._wires: dict[str, Wire] = {}
        self._written: dict[Place, str] = {}
        for name, node in spec.nodes.items():
            self._check_name(name)
            self.outputs[name] = self._outputs_of(f"nodes.{name}.to", node)
        for name, node in spec.nodes.items():
            self._check_node(f"nodes.{name}", node)
            for path, text in self.texts_of(name):
                self._look_up(path, text)
            if len(self.problems) >= _MOST_PROBLEMS:
                break
        if not self.problems:
            self._check_ends()
            self._check_circles()
        if not self.problems:
            self.problems += self._unread()

    def texts_of(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield what a node reads, as the file says it, with the path of its key."""
        given, path = self._spec.nodes[name].from_, f"nodes.{name}.from"
        if isinstance(given, str):
            yield path, given
        elif isinstance(given, Mapping):
            yield from ((f"{path}.{key}", text) for key, text in given.items())
        else:
            yield from ((f"{path}[{number}]", text) for number, text in enumerate(given))

    def wire(self, text: str) -> Wire:
        """Return what a text in `from` names."""
        return self._wires[text]

    def reads_a_file(self, name: str) -> bool:
        """Return whether a node reads a stream that no node of the file writes."""
        wires = [self._wires[text] for _, text in self.texts_of(name)]
        return any(wire.uri and not set(StreamFactory.source(wire.uri).places) <= set(self._written) for wire in wires)

    def _say(self, path: str, problem: str) -> None:
        self.problems.append(f"{path}: {problem}")

    def _check_name(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            self._say(
                f"nodes.{name}",
                f"the name of a node must be letters, digits, _ and -, and begin with a letter, not {name!r}",
            )
        elif name in (INPUT, OUTPUT):
            self._say(f"nodes.{name}", f"{name!r} is what the pipeline's own {name} is called: choose another name")

    def _check_node(self, path: str, node: NodePart) -> None:
        if node.route is not None and "" in self.outputs[path.removeprefix("nodes.")]:
            self._say(f"{path}.route", "it is for several outputs: give their names, to: [NAME, NAME]")
        if node.ids is not None and isinstance(node.from_, str):
            self._say(f"{path}.ids", "it is for several inputs: from: [NODE, NODE]")

    # Where rows go.

    def _outputs_of(self, path: str, node: NodePart) -> Outputs:
        given = node.to
        if given is None or isinstance(given, str):
            return {"": self._target(path, given)}
        named = given if isinstance(given, Mapping) else dict.fromkeys(given)
        if len(named) < len(given):
            self._say(path, f"an output is named twice: {', '.join(given)}")
        for name in named:
            if not _NAME.fullmatch(name):
                hint = "; a stream has a name in front, NAME: URI" if re.search(r"[./:]", name) else ""
                self._say(path, f"the name of an output must be letters, digits, _ and -, not {name!r}{hint}")
        return {name: self._target(f"{path}.{name}", each) for name, each in named.items()}

    def _target(self, path: str, text: str | None) -> str | None:
        """Return the URI that a text in `to` names, and note who writes it."""
        if text is None:
            return None
        if text == OUTPUT:
            uri = self._spec.output_uri
            if not uri:
                self._say(path, _NO_END.format(OUTPUT))
                return None
        elif text in self._spec.nodes:
            reader = path.split(".")[1]
            self._say(path, f"{text!r} is a node: nodes say what they read, so write it there, from: {reader}")
            return None
        else:
            uri = text
        if is_standard(uri) or is_export(uri):
            what = "standard output" if is_standard(uri) else "made from a finished stream"
            self._say(
                path, f"{uri!r} is {what}; a graph writes streams: give such as out.jsonl, and llm-datagen export"
            )
            return None
        try:
            place = StreamFactory.create(uri).place
        except ConfigError as error:
            self._say(path, f"{error}{_near(text, [OUTPUT])}")
            return None
        if place in self._written:
            self._say(path, f"{self._written[place]} writes {uri!r}, too: each stream has one writer")
        self._written.setdefault(place, path)
        return uri

    # What nodes read.

    def _look_up(self, path: str, text: str) -> None:
        if text not in self._wires:
            wire = self._wire(path, text)
            if wire is not None:
                self._wires[text] = wire

    def _wire(self, path: str, text: str) -> Wire | None:
        """Return what a text in `from` names; None, if that is a problem."""
        nodes = self._spec.nodes
        head, dot, output = text.partition(".")
        if text == INPUT and not self._spec.input_uri:
            self._say(path, _NO_END.format(INPUT))
        elif text == OUTPUT:
            self._say(path, "'output' is what the pipeline writes; name the node whose rows are to be read")
        elif text == INPUT:
            return self._file(path, self._spec.input_uri)
        elif head in nodes:
            return self._output_of(path, head, output if dot else "")
        elif dot or "/" in text or is_standard(text):
            return self._file(path, text)
        else:
            self._say(path, f"there is no node {text!r}; {did_you_mean(text, [*nodes, INPUT])}")
        return None

    def _output_of(self, path: str, name: str, output: str) -> Wire | None:
        outputs = self.outputs[name]
        if output in outputs:
            return Wire(node=name, output=output)
        if "" in outputs:
            self._say(path, f"node {name!r} has one output: from: {name}")
        elif not output:
            several = ", ".join(f"{name}.{each}" for each in outputs)
            self._say(path, f"node {name!r} has several outputs: say which one, of {several}")
        else:
            self._say(path, f"node {name!r} has no output {output!r}; {did_you_mean(output, outputs)}")
        return None

    def _file(self, path: str, uri: str) -> Wire | None:
        if is_standard(uri):
            self._say(path, "'-' is standard input, which only a line of 'operators' reads: give a file")
            return None
        try:
            StreamFactory.source(uri)
        except ConfigError as error:
            known = [*self._spec.nodes, *(f"{n}.{o}" for n, outputs in self.outputs.items() for o in outputs if o)]
            self._say(path, f"{error}{_near(uri, known)}")
            return None
        return Wire(uri=uri)

    # All together.

    def _check_ends(self) -> None:
        texts = [text for name in self._spec.nodes for _, text in self.texts_of(name)]
        if self._spec.input_uri and INPUT not in texts:
            self._say("input_uri", "no node reads it: give one of them from: input")
        ends = [each for node in self._spec.nodes.values() for each in _targets_in(node.to)]
        if self._spec.output_uri and OUTPUT not in ends:
            self._say("output_uri", "no node writes it: give one of them to: output")

        if "target" in self._spec.of_nodes() and all(node.to != OUTPUT for node in self._spec.nodes.values()):
            self._say(
                "target", "it is for the rows of the pipeline's output, and no node has to: output; say it of a node"
            )

    def _check_circles(self) -> None:
        nodes = list(self._spec.nodes)
        before = {name: {self._wires[text].node for _, text in self.texts_of(name)} - {""} for name in nodes}
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            circle: list[Any] = error.args[1][:-1]
            first = min(range(len(circle)), key=lambda at: nodes.index(circle[at]))
            circle = [*circle[first:], *circle[:first]]
            self._say(
                f"nodes.{circle[0]}.from",
                f"a circle: {' → '.join([*circle, circle[0]])}; each reads what the one before it writes: let one of "
                "them read something else",
            )

    def _unread(self) -> Iterator[str]:
        read = {(wire.node, wire.output) for wire in self._wires.values()}
        for name, outputs in self.outputs.items():
            for output, uri in outputs.items():
                if uri is not None or (name, output) in read:
                    continue
                path = f"nodes.{name}.to.{output}" if output else f"nodes.{name}"
                reader = f"{name}.{output}" if output else name
                end = f"{output}: output, or {output}: PATH" if output else "to: output, or to: PATH"
                yield f"{path}: nobody reads its rows: let a node do so (from: {reader}), or say where they go ({end})"


_NO_END = "{0!r} is {0}_uri, which the file does not say: say it, or give a path or URI here"


def _near(text: str, known: Iterable[str]) -> str:
    """Return a hint at what was meant, if something is near."""
    hint = did_you_mean(text, known)
    return f"; {hint}" if hint.startswith("did you mean") else ""


def _targets_in(to: Any) -> list[Any]:
    return [to] if isinstance(to, str) else list(to.values()) if isinstance(to, Mapping) else []
