"""A preview: some rows through a pipeline, with every prompt as it is sent and every answer as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from rich.text import Text

from llm_datagen.cli.exit_codes import FAILED
from llm_datagen.cli.output import shown_row, write_json
from llm_datagen.cli.preview_run import PreviewRun, made_of, spent_in
from llm_datagen.cli.target import find_target, parse_settings
from llm_datagen.errors.escape import escape
from llm_datagen.operators import Call
from llm_datagen.pipeline.preview import NodePreview, Sample, first_rows, rows_at
from llm_datagen.runs.browse.call_words import calls_in
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.tables import line_width, one_line
from llm_datagen.runs.words import number, rows_in_words
from llm_datagen.streams import Stream
from llm_datagen.streams.formats.json_values import shown
from llm_datagen.streams.ids import ID_FIELD, Id, RootNames, parent_of

if TYPE_CHECKING:
    from llm_datagen.llm.observer import ObservedCall

Line = tuple[str, str]
"""A text, and its style."""

_HELD_BACK = "CallSkippedError"
_INDENT = " " * 14


def preview_pipeline(
    name: str, settings: list[str], *, count: int, numbers: list[int], make_calls: bool, as_json: bool
) -> int:
    """Show what the models are asked about some rows, and what they answer; return the exit code: 1 when a row failed.

    Args:
        name: a YAML file, or ``module:attr``.
        settings: ``key=value`` each.
        count: how many of the first rows; also how many rows every later node gets at most.
        numbers: rows of the input in place of the first ones.
        make_calls: whether models are called; else only the prompts are shown that need no answer.
        as_json: whether to print JSON.

    Raises:
        ConfigError: when the pipeline is wrong, or the input has no such row.
        NodeFailedError: when something else than a row fails.
    """

    def choose(stream: Stream, root: RootNames | None) -> Sample:
        return rows_at(stream, numbers, root=root) if numbers else first_rows(stream, count, root=root)

    target = find_target(name, parse_settings(settings))
    preview_run = PreviewRun(
        target,
        choose,
        rows=len(set(numbers)) or count,
        most=max(numbers) + 1 if numbers else count,
        hold_back=not make_calls,
    )
    console = SafeConsole()
    tried, stages, calls = [], [], []
    for stage, made in preview_run.stages():
        tried.append(stage)
        stages.append(_stage_data(stage, made))
        calls += made
        if not as_json:
            for text, style in _stage_lines(stage, made, is_first=len(stages) == 1, is_held_back=not make_calls):
                console.print(Text(text, style), soft_wrap=True)
    unreadable = [
        f"{preview_run.shown(stream)}: row {at} cannot be read: {escape(why)}"
        for stream, sample in preview_run.samples.values()
        for at, why in sample.unreadable.items()
    ]
    failed = sum(len(stage["failed"]) for stage in stages)
    sums = _sums(tried, calls, make_calls)
    if as_json:
        data = {"nodes": stages, "unreadable": unreadable, **sums}
        write_json(data)
    else:
        for text in [*unreadable, _closing(sums, failed, make_calls)]:
            console.print(Text(text), soft_wrap=True)
    return FAILED if failed or unreadable else 0


def _sums(tried: Sequence[NodePreview], calls: Sequence[ObservedCall], make_calls: bool) -> dict[str, Any]:
    made = made_of(calls)
    return {
        "calls": made if make_calls else 0,
        "cached": len(calls) - made,
        "held_back": 0 if make_calls else len(calls),
        **spent_in(tried)._asdict(),
    }


def _closing(sums: Mapping[str, Any], failed: int, make_calls: bool) -> str:
    if not make_calls:
        return f"{_in_words(sums['held_back'], 'call')} not made, nothing spent and nothing written"
    cost = "" if not sums["calls"] else ", cost unknown" if sums["cost"] is None else f", ${sums['cost']:.6f}"
    cached = f", {number(sums['cached'])} answered by the cache" if sums["cached"] else ""
    tokens = f"{number(sums['prompt_tokens'])} + {number(sums['completion_tokens'])} tokens"
    lost = f"; {rows_in_words(failed)} failed" if failed else ""
    return f"{_in_words(sums['calls'], 'call')} made{cached}: {tokens}{cost}; no output was written{lost}"


def _in_words(count: int, what: str) -> str:
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def _stage_lines(
    stage: NodePreview, calls: Sequence[ObservedCall], *, is_first: bool, is_held_back: bool
) -> Iterator[Line]:
    head = f"{stage.node_id} {stage.entry['operator']}: {rows_in_words(len(stage.given))} in"
    if not stage.given:
        missing = "it needs the answers of the nodes before it" if is_held_back else "the nodes before it made none"
        yield f"{head}: {'of its input, none could be read' if is_first else missing}", "bold"
        yield "", ""
        return
    waiting = f" (of {number(len(stage.given) + stage.waiting)} that are there)" if stage.waiting else ""
    yield f"{head}{waiting}, {number(len(stage.made))} out", "bold"
    if stage.state:
        yield f"    state     {escape(', '.join(stage.state))} changed between calls: a crash takes it away", "yellow"
    if _may_mix_parents(stage):
        text = 'by position: rows of several parents may share one; batch_by="parent" gives siblings alone'
        yield f"    batches   {text}", "yellow"
    rows = _by_row(calls)
    known = stage.made_of()
    failed = {dead_letter["_i"]: dead_letter for dead_letter in stage.failed}
    before: Sequence[Mapping[str, Any]] = ()
    for row_id, item in stage.given:
        yield _one_line(f"  row {row_id}  ", item), "cyan"
        for call in rows.pop(f"row {row_id}", []):
            yield from _call_lines(call, before)
            before = call.request.messages
        error = failed.get(row_id, {}).get("error", {})
        if error and error["kind"] != _HELD_BACK:
            yield f"    failed    {escape(error['text'])}", "red"
        elif known is not None and not error:
            for made in known[row_id]:
                yield _row_out(item, made), ""
            if not known[row_id]:
                yield "    row out   none: it is filtered", "yellow"
    for call in (call for rest in rows.values() for call in rest):
        yield f"  {call.request.row}", "cyan"
        yield from _call_lines(call, before)
        before = call.request.messages
    if known is None:
        for row_id, made in stage.made:
            yield _one_line(f"  row out {row_id}  ", made), ""
    yield "", ""


def _may_mix_parents(stage: NodePreview) -> bool:
    """Return whether batches are made by position out of children of several rows."""
    entry = stage.entry
    if not Call(stage.operator).batch or entry["batch_size"] == 1 or entry.get("batch_by", "position") == "parent":
        return False
    parents = Counter(parent_of(row_id) for row_id, _ in stage.given)
    return len(parents) > 1 and any(count > 1 for parent, count in parents.items() if parent is not None)


def _by_row(calls: Sequence[ObservedCall]) -> dict[str, list[ObservedCall]]:
    rows: dict[str, list[ObservedCall]] = {}
    for call in sorted(calls, key=lambda call: call.request.sample):  # the samples of a row arrive in any order
        rows.setdefault(call.request.row, []).append(call)
    return rows


def _call_lines(call: ObservedCall, before: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    request, answer = call.request, call.answer
    params = {key: value for key, value in request.params.items() if key not in ("response_format", "tools")}
    call_text = [request.model, *(f"{key}={shown(value)}" for key, value in params.items())]
    if request.choices > 1:
        call_text.append(f"{request.choices} answers")
    yield f"    call      {escape(', '.join(call_text))}", "dim"
    if "response_format" in request.params:
        yield f"    format    {escape(_format_in_short(request.params['response_format']))}", "dim"
    if request.has_tools:
        yield f"    tools     {escape(', '.join(map(_tool_name, request.params.get('tools') or ())))}", "dim"
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, request.messages, strict=False)))
    same = min(same, len(request.messages) - 1)
    if same:
        yield f"    ({_in_words(same, 'message')} as in the call before)", "dim"
    for message in request.messages[same:]:
        said, made = message.get("content"), list(calls_in(message))
        if said or not made:
            yield f"    {message['role']:9} {_indented(_content(said))}", ""
        for each in made:
            yield f"    calls     {_indented(each)}", ""
    if answer is not None:
        used = f"{answer.usage.get('prompt_tokens', 0)} + {answer.usage.get('completion_tokens', 0)} tokens"
        cost = "" if answer.cost is None or answer.is_cached else f", ${answer.cost:.6f}"
        time = "from the cache" if answer.is_cached else f"{answer.seconds:.2f} s{cost}"
        tries = f", {answer.attempts} tries" if answer.attempts > 1 else ""
        for one in (answer, *answer.others):
            nothing = "(calls of tools)" if one.extras.get("tool_calls") else "(no text)"
            yield f"    answer    {_indented(one.in_words or nothing)}", "green"
        ended = f"{answer.finish_reason}, " if request.operation == "chat" else ""
        yield f"{_INDENT}({ended}{used}, {time}{tries})", "dim"


def _tool_name(tool: Any) -> str:
    """Return the name of a tool, as chat completions have it, or of one of the API's own."""
    function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
    return str(function.get("name") or function.get("type") or shown(tool))


def _format_in_short(value: Any) -> str:
    """Return the kind of a response format, and the columns that its schema names."""
    try:
        schema = value["json_schema"]["schema"]
        return f"{value['type']}: {', '.join(schema['properties'])}"
    except (KeyError, TypeError):
        return shown(value)


def _content(content: Any) -> str:
    """Return a message's content as text; of parts that are images by value, only how long they are."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, Mapping) and part.get("type") == "text":
            texts.append(str(part["text"]))
        else:
            data = shown(part)
            texts.append(f"[{data}]" if len(data) <= 300 else f"[{data[:80]}… {number(len(data))} characters]")
    return "\n".join(texts)


def _stage_data(stage: NodePreview, calls: Sequence[ObservedCall]) -> dict[str, Any]:
    return {
        "node_id": stage.node_id,
        "operator": stage.entry["operator"],
        "rows_in": len(stage.given),
        "rows_waiting": stage.waiting,
        "state": list(stage.state),
        "given": [_row(row_id, item) for row_id, item in stage.given],
        "made": [_row(row_id, item) for row_id, item in stage.made],
        "failed": [
            {"row": dead_letter["_i"], "kind": dead_letter["error"]["kind"], "text": dead_letter["error"]["text"]}
            for dead_letter in stage.failed
            if dead_letter["error"]["kind"] != _HELD_BACK
        ],
        "calls": [
            {
                "row": call.request.row,
                "sample": call.request.sample,
                "model": call.request.model,
                "params": call.request.params,
                "messages": call.request.messages,
                "answer": call.answer,
                "error": call.error,
            }
            for call in calls
        ],
    }


def _row(row_id: Id, item: Any) -> dict[str, Any]:
    return {"id": row_id, "item": item}


def _one_line(head: str, item: Any) -> str:
    return head + one_line(shown_row(item), max(line_width() - len(head), 20))


def _row_out(item: Any, made: Any) -> str:
    """Return what came of an item in a line: of an object, what it has that the item had not."""
    head = "    row out   "
    if not (isinstance(item, dict) and isinstance(made, dict)):
        return _one_line(head, made)
    new = {key: value for key, value in made.items() if key not in item or item[key] != value}
    new.pop(ID_FIELD, None)
    same = sum(key not in new and key != ID_FIELD for key in made)
    rest = f"{_in_words(same, 'column')} as before" if same else ""
    if rest and not new:
        return head + rest
    rest = f" and {rest}" if rest else ""
    return head + one_line(shown_row(new), max(line_width() - len(head) - len(rest), 20)) + rest


def _indented(text: str) -> str:
    return escape(text).replace("\n", "\n" + _INDENT)
