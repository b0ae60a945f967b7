"""A YAML file as it is read: what it says, and in which line; what is hostile, or in doubt, is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml

from llm_datagen.cli.yaml_errors import key_path
from llm_datagen.errors import ConfigError
from llm_datagen.errors.escape import shortened

_SHOWN = 60
"""Signs of a value that errors show."""

_MOST_VALUES = 100_000
"""Values that a file may have. More is no pipeline, but aliases of aliases of aliases."""


class _Loader(yaml.SafeLoader):
    """Reads what all versions of YAML read alike."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return what a node says; refuse what only looks like a date, or is not of the type that it names."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError):  # PyYAML does not look first
            shown = node.value if isinstance(node, yaml.ScalarNode) else "this"
            kind = node.tag.rpartition(":")[2]
            problem = f"{shortened(shown, _SHOWN)} cannot be read as {kind}: quote it, if it is a text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """Refuse what YAML 1.1 and 1.2 read as two: `010` (8, or 10), `1:30` (90, or a text), `1e3` (a text, or 1000)."""
    text = node.value.lstrip("+-")
    if node.tag == _IN_DOUBT or ":" in text or (text[0] == "0" and text[1:].replace("_", "").isdecimal()):
        problem = f"{node.value} is not the same in all versions of YAML: write the number in decimal, or quote a text"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    is_whole = node.tag.endswith(":int")
    return loader.construct_yaml_int(node) if is_whole else loader.construct_yaml_float(node)


def _date(_: _Loader, node: yaml.ScalarNode) -> Any:
    """Refuse what YAML 1.1 reads as a date or a moment, and 1.2 as a text: no row and no setting holds a date."""
    problem = f"{node.value} is a date in some versions of YAML, and a text in others: quote it, to have the text"
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_IN_DOUBT = "!in-doubt"
_NUMBER_OF_ONE_VERSION = re.compile(
    r"[-+]?(?:0o[0-7]+|0[0-9]*[89][0-9]*|(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][0-9]+|[0-9]+[eE][-+][0-9]+)$"
)
_Loader.add_implicit_resolver(_IN_DOUBT, _NUMBER_OF_ONE_VERSION, list("-+.0123456789"))
for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", _IN_DOUBT):
    _Loader.add_constructor(_tag, _number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)


def yaml_value(text: str, where: str) -> Any:
    """Return what a text of the command line says in YAML.

    Args:
        text: the value.
        where: the option, for errors.

    Raises:
        ConfigError: when it is no YAML, or in doubt.
    """
    try:
        return _loaded(text)[0]
    except yaml.YAMLError as error:
        why = error.problem if isinstance(error, yaml.MarkedYAMLError) else " ".join(str(error).split())
        raise ConfigError(f"{where}: {shortened(text, _SHOWN)!r} is not a YAML value: {why}") from None


def _loaded(data: bytes | str) -> tuple[Any, dict[str, int]]:
    """Return what a YAML text says, and the line of each key, by its path.

    Raises:
        yaml.YAMLError: when it is none, or its aliases make it gigantic.
    """
    loader = _Loader(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        if _written_out(node, {}) > _MOST_VALUES:
            problem = f"with its aliases written out, it has more than {_MOST_VALUES} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return loader.construct_document(node), dict(_lines(node, []))
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node has when the aliases in it are written out; write out its merged keys (<<).

    Raises:
        yaml.MarkedYAMLError: when it holds itself, a key that is no single value or is there twice, or merges what
            holds no keys.
    """
    size = known.get(id(node))
    if size is None:
        known[id(node)] = -1  # until it is known
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        values = [each for pair in inner for each in (pair if isinstance(pair, tuple) else (pair,))]
        size = 1 + sum(_written_out(each, known) for each in values)
        known[id(node)] = size
        if isinstance(node, yaml.MappingNode):
            node.value = list(_merged(node))
    if size < 0:
        raise yaml.MarkedYAMLError(problem="an alias stands within what it is for", problem_mark=node.start_mark)
    return size


_MERGE = "tag:yaml.org,2002:merge"

_Pair = tuple[yaml.ScalarNode, yaml.Node]


def _merged(node: yaml.MappingNode) -> Iterator[_Pair]:
    """Yield the keys of a mapping and those that it merges: its own come first, then those of an earlier one.

    PyYAML would do it, and its versions choose differently among several.
    """
    own = [pair for pair in node.value if pair[0].tag != _MERGE]
    seen = {key.value for key, _ in own}
    yield from own
    for merged in (value for key, value in node.value if key.tag == _MERGE):
        for each in merged.value if isinstance(merged, yaml.SequenceNode) else [merged]:
            if not isinstance(each, yaml.MappingNode):
                raise yaml.MarkedYAMLError(problem="<< merges keys and values", problem_mark=each.start_mark)
            for key, value in each.value:
                if key.value not in seen:
                    seen.add(key.value)
                    yield key, value


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuse a key that is there twice, where YAML would forget the first, and one that is a list or a mapping."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
        if key.tag == _MERGE:
            continue
        if key.value in seen:
            problem = f"the key {key.value!r} is there already, in line {seen[key.value]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        seen[key.value] = key.start_mark.line + 1


def _lines(node: yaml.Node, above: Sequence[str | int]) -> Iterator[tuple[str, int]]:
    """Yield the path of each key and of each element in a node, with its line, from 1."""
    inner: list[tuple[str | int, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        inner = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inner = [(number, value, value) for number, value in enumerate(node.value)]
    for key, marked, value in inner:
        path = [*above, key]
        yield key_path(path), marked.start_mark.line + 1
        yield from _lines(value, path)


_KEY = re.compile(r"[^\s:=]+")
_LAST = re.compile(r"(\.[^.\[\]]*|\[\d+\])$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file says.

    Attributes:
        path: the file.
        content: its keys.
        lines: in which line each key is, by its path, such as ``operators[1].with``.
    """

    path: Path
    content: Mapping[Any, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ConfigError: naming the file, and the line.
        """
        try:
            content, lines = _loaded(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise ConfigError(f"{path}{where}: this is not YAML: {error.problem}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: this is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path} must hold keys such as 'operators', 'input_uri' and 'output_uri'")
        return cls(path=path, content=content, lines=lines)

    def overridden(self, keys: Mapping[str, Any]) -> Self:
        """Return a document in which some keys are something else, that no line of the file says."""
        lines = {path: line for path, line in self.lines.items() if re.split(r"[.\[]", path)[0] not in keys}
        return replace(self, content={**self.content, **keys}, lines=lines)

    def error(self, problems: Sequence[str]) -> ConfigError:
        """Return an error that says what is wrong: one problem in a sentence, several in a line each.

        Args:
            problems: each begins with the path of a key.
        """
        if len(problems) == 1:
            line = self._line_of(problems[0])
            return ConfigError(f"{self.path}{f', line {line}' if line else ''}: {problems[0]}")
        placed = [(self._line_of(problem), problem) for problem in problems]
        told = [f"  line {line}: {problem}" if line else f"  {problem}" for line, problem in placed]
        return ConfigError(f"{self.path}: {len(problems)} things are wrong\n" + "\n".join(told))

    def _line_of(self, problem: str) -> int | None:
        """Return the line of the key that a problem begins with; of one that is not there, of what it should be in."""
        found = _KEY.match(problem)
        path = found[0] if found else ""
        if problem.partition(": ")[0] in self.lines:  # a key with a blank in it
            path = problem.partition(": ")[0]
        while path and path not in self.lines:
            path, shorter = _LAST.sub("", path), path
            if path == shorter:
                return None
        return self.lines.get(path)
