"""Digests of code: equal for code that does the same, whatever its comments, its layout and the place of its file.

A digest has up to two parts: ``ast`` of the source, which all versions of Python share, and one of the bytecode, which
only one version has. Two digests are compared by the best part that both have. The source counts only when it compiles
to the very code that is loaded: a file that was edited since it was imported says nothing about what runs.
"""

from __future__ import annotations
import __future__

import ast
import hashlib
import linecache
import sys
from collections.abc import Iterator
from functools import lru_cache, reduce
from types import CodeType
from typing import Any

_BYTECODE = sys.implementation.cache_tag or sys.implementation.name
_FUTURE = reduce(lambda flags, name: flags | getattr(__future__, name).compiler_flag, __future__.all_feature_names, 0)
_HAS_DOCSTRING, _SAYS_DOCSTRING = 0x4000000, sys.version_info >= (3, 13)
"""The flag of code whose first constant is its docstring; before 3.13, a function's first constant is that or None."""

_NO_MEANING = {"ctx", "kind", "type_comment", "type_ignores"}
_KNOWN_OTHERWISE = {"name", "decorator_list", "returns"}
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def digest(data: bytes) -> str:
    """Return a short digest of `data`."""
    return hashlib.sha256(data).hexdigest()[:16]


def is_code_part(name: str) -> bool:
    """Return whether a part of a fingerprint that has this name is the digest of a function's code.

    Parts of something that an operator is made of have its name before them: ``tool look_up: code``.
    """
    own = name.rpartition(": ")[2]
    return own == "code" or own.startswith("code of ")


@lru_cache(maxsize=4096)
def code_digest(code: CodeType) -> str:
    """Return the digest of a function's code."""
    bytecode = digest(repr(_bytecode(code)).encode())
    node = _source_of(code)
    if node is None:
        return f"{_BYTECODE}:{bytecode}"
    source = digest(repr(_plain_tree(node, is_root=True)).encode(errors="surrogatepass"))
    return f"ast:{source} {_BYTECODE}:{bytecode}"


def is_same_code(one: str, other: str) -> bool:
    """Return whether two digests may be of the same code. Digests without a common part are taken as equal."""
    ours, theirs = (dict(part.split(":", 1) for part in text.split() if ":" in part) for text in (one, other))
    for kind in ("ast", *sorted(ours)):
        if kind in ours and kind in theirs:
            return ours[kind] == theirs[kind]
    return True


def _bytecode(code: CodeType) -> tuple[Any, ...]:
    """Return what the code does: no names of files, no line numbers, no docstring."""
    consts = list(code.co_consts)
    is_documented = bool(code.co_flags & _HAS_DOCSTRING) if _SAYS_DOCSTRING else not code.co_name.startswith("<")
    if is_documented and consts and isinstance(consts[0], str):
        consts[0] = None
    return (
        code.co_code,
        [_constant(const) for const in consts],
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_HAS_DOCSTRING),
        code.co_exceptiontable,
    )


def _constant(const: Any) -> Any:
    if isinstance(const, CodeType):
        return _bytecode(const)
    if isinstance(const, frozenset):
        return "frozenset", sorted(repr(_constant(part)) for part in const)
    if isinstance(const, tuple):
        return tuple(_constant(part) for part in const)
    return type(const).__name__, repr(const)


def _source_of(code: CodeType) -> ast.AST | None:
    """Return the function of the source that compiles to `code`; None when there is no source, or not that any more."""
    for is_again in (False, True):
        if is_again:
            linecache.checkcache(code.co_filename)
        text = "".join(linecache.getlines(code.co_filename))
        module = _compiled(text, code.co_flags & _FUTURE) if text else None
        if module is not None and _digest_at(code) in module[1]:
            return _node_of(code, module[0])
    return None


@lru_cache(maxsize=64)
def _compiled(text: str, flags: int) -> tuple[ast.AST, frozenset[tuple[int, str, str]]] | None:
    """Return the tree of a source, and what all functions in it compile to."""
    try:
        tree = ast.parse(text)
        compiled = compile(text, "<source>", "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree, frozenset(_digest_at(code) for code in _codes(compiled))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _digest_at(code: CodeType) -> tuple[int, str, str]:
    return code.co_firstlineno, code.co_name, digest(repr(_bytecode(code)).encode())


def _node_of(code: CodeType, tree: ast.AST) -> ast.AST | None:
    found = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and _is_at(node, code)]
    if len(found) > 1:  # several lambdas in one line: the one in whose span the code lies
        places = [place for place in code.co_positions() if None not in place and place[2] != place[3]]
        found = [node for node in found if all(_spans(node, place) for place in places)]
        found.sort(key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0))
    return found[0] if found else None


def _is_at(node: Any, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return bool(node.name == code.co_name and first == code.co_firstlineno)


def _spans(node: Any, place: tuple[Any, ...]) -> bool:
    line, end_line, column, end_column = place
    return bool(
        (node.lineno, node.col_offset) <= (line, column)
        and (end_line, end_column) <= (node.end_lineno, node.end_col_offset)
    )


def _plain_tree(node: Any, *, is_root: bool = False, in_class: bool = False) -> Any:
    """Return a tree as tuples, without what only some versions of Python write into it, and the name of the root."""
    if isinstance(node, list):
        return [_plain_tree(part, in_class=in_class) for part in node]
    if not isinstance(node, ast.AST):
        return type(node).__name__, repr(node)
    if isinstance(node, ast.AnnAssign) and node.simple and node.value is not None and not in_class:
        node = ast.Assign(targets=[node.target], value=node.value)  # what a local is said to be does nothing
    in_class = isinstance(node, ast.ClassDef) or (in_class and not isinstance(node, _FUNCTIONS))
    fields = []
    for name, found in ast.iter_fields(node):
        value = found[1:] if name == "body" and _has_docstring(node) else found
        if name == "args" and is_root:
            value = [_plain_tree(part) for part in _names(found)]
        if (
            name not in (_NO_MEANING | _KNOWN_OTHERWISE if is_root else _NO_MEANING)
            and value is not None
            and value != []
        ):
            fields.append((name, _plain_tree(value, in_class=in_class)))
    return type(node).__name__, fields


def _names(args: ast.arguments) -> list[Any]:
    """Return the names of the arguments; what their defaults are is known otherwise, and annotations do nothing."""
    kinds: list[list[Any]] = [args.posonlyargs, args.args, [args.vararg], args.kwonlyargs, [args.kwarg]]
    return [[arg and arg.arg for arg in kind] for kind in kinds]


def _has_docstring(node: Any) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or not node.body:
        return False
    first = node.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
