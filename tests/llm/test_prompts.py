"""Prompts: what a template writes for the values of a row, and what it refuses to."""

from __future__ import annotations

import copy
import datetime
import tracemalloc
from typing import Any

import pytest
import yaml

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator, PromptError
from llm_datagen.llm.prompts.bounds import MAX_PROMPT_CHARS
from llm_datagen.llm.prompts.template import Prompt

ROW: dict[str, Any] = {
    "_i": 4,
    "text": "你好 <b>&'\"",
    "order": {"items": ["nut", "bolt"], "keys": 2, "note": None, "paid": True},
    "bag": {"a": 1, "b": None},
    "tags": ["x", None, True, 2, {"k": "é"}],
    "none": None,
    "yes": True,
    "half": 0.5,
    "Question Text": "why?",
    "user-id": "u7",
    "meta.lang": "zh",
    "self": "me",
    "loop": "round",
    "range": "1 to 2",
    "cycler": "bike",
    "true": "t",
    "day": datetime.date(2026, 1, 2),
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        # JSON is plain, and in the row's order.
        ("{{ row.text | tojson }}", '"你好 <b>&\'\\""'),
        ("{{ order | tojson }}", '{"items": ["nut", "bolt"], "keys": 2, "note": null, "paid": true}'),
        ("{{ {'b': 1, 'a': [text]} | tojson }}", '{"b": 1, "a": ["你好 <b>&\'\\""]}'),
        ("{{ bag | tojson(indent=1) }}", '{\n "a": 1,\n "b": null\n}'),
        ("{{ none | tojson }}", "null"),
        ("{{ bag.items() | list | tojson }}", '[["a", 1], ["b", null]]'),
        # Keys before attributes; the methods that loops need, where there is no such key.
        ("{{ order.items }}", '["nut", "bolt"]'),
        ("{{ order['items'] }} {{ order.keys }}", '["nut", "bolt"] 2'),
        ("{% for key, value in bag.items() %}{{ key }}={{ value }};{% endfor %}", "a=1;b=;"),
        ("{{ bag.keys() }} {{ bag.values() }} {{ bag.items() }}", '["a", "b"] [1, null] [["a", 1], ["b", null]]'),
        ("{{ bag.get('a') }}{{ bag.get('z', 'none') }}{{ bag.get('b') }}", "1none"),
        ("{{ [order] | map(attribute='items') | list }}", '[["nut", "bolt"]]'),
        # Values: objects and lists as JSON, null as nothing, booleans as JSON has them.
        ("{{ tags }}", '["x", null, true, 2, {"k": "é"}]'),
        ("{{ (1, 'a') }}", '[1, "a"]'),
        ("[{{ none }}][{{ yes }}][{{ not yes }}][{{ 1 > 2 }}]", "[][true][false][false]"),
        ("{{ half }} {{ 10 ** 20 }} {{ day }} {{ _i }}", "0.5 100000000000000000000 2026-01-02 4"),
        # … wherever a value becomes a text.
        ("{{ 'a' ~ none ~ yes ~ bag }}", 'atrue{"a": 1, "b": null}'),
        ("{{ tags | join(', ') }}", 'x, , true, 2, {"k": "é"}'),
        ("{{ [bag, {'a': 2}] | join('+', attribute='a') }}", "1+2"),
        ("{{ none | upper }}{{ yes | upper }}{{ none | string }}{{ bag | trim }}", 'TRUE{"a": 1, "b": null}'),
        ("{{ '7' | int + 1 }} {{ half | int }} {{ yes | int }} [{{ none | float }}]", "8 0 1 []"),
        ("{{ none | replace('N', 'x') }}{{ none | default('gone') }}{{ none or 'gone' }}", "gone"),
        ("{{ '%s, %s, %03d' | format(none, bag, 7) }}", ', {"a": 1, "b": null}, 007'),
        ("{{ '%s|%s' % (yes, tags[4]) }} {{ '%(a)s' % bag }} {{ '%s' % none }}", 'true|{"k": "é"} 1 '),
        ("{{ '{} {a} {:>3}'.format(none, 7, a=yes) }} {{ '{a}{b}'.format_map(bag) }}", " true   7 1"),
        ("{% set said %}{{ none }}{{ yes }}{% endset %}{{ said }}", "true"),
        # Names that are no identifiers, or are Jinja2's own.
        ("{{ row['Question Text'] }} {{ row['user-id'] }} {{ row['meta.lang'] }}", "why? u7 zh"),
        ("{{ row.self }} {{ row['self'] }} {{ row['true'] }} {{ loop }}", "me me t round"),
        ("{% for x in [1] %}{{ row.loop }} {{ loop.index }}{% endfor %}", "round 1"),
        ("{{ range }} {{ cycler }}", "1 to 2 bike"),
        ("{{ row | length }}", str(len(ROW))),
        # What Jinja2 itself has.
        ("{% set n = namespace(sum=0) %}{% for x in [1, 2] %}{% set n.sum = n.sum + x %}{% endfor %}{{ n.sum }}", "3"),
        ("{% set s = joiner('-') %}{% for x in 'ab' %}{{ s() }}{{ x }}{% endfor %}", "a-b"),
        ("{{ dict(a=1) }} {{ lipsum(n=1, html=false) | length > 5 }}", '{"a": 1} true'),
        ("{% macro greet(name) %}hi {{ name }}{% endmacro %}{{ greet('you') }} {{ greet(none) }}", "hi you hi "),
        ("{{ 'a,b'.split(',') }} {{ text.startswith('你') }} {{ 'x'.join(['1', '2']) }}", '["a", "b"] true 1x2'),
    ],
)
def test_a_template_writes_values_as_the_row_has_them(template: str, text: str) -> None:
    row = copy.deepcopy(ROW)
    assert Prompt(template, may_be_blank=True).render(row) == text
    assert row == ROW


def test_range_and_cycler_work_where_the_row_has_no_such_fields() -> None:
    template = "{% set c = cycler('a', 'b') %}{% for n in range(3) %}{{ n }}{{ c.next() }}{% endfor %}{{ row }}"
    assert Prompt(template).render({"q": 1}) == '0a1b2a{"q": 1}'
    assert Prompt("{{ row | tojson }} {{ data }}").render([1, "é"]) == '[1, "é"] [1, "é"]'


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ text.title }}", "the method 'title' would be written, .* call it, title"),
        ("{{ bag.items }}", "the method 'items' would be written"),
        ("{{ tags.count }}", "the method 'count' would be written"),
        ("{{ 'a' ~ text.upper }}", "the method 'upper' would be written"),
        ("{{ [text.upper] | join }}", "the method 'upper' would be written"),
        ("{{ [text.upper] | tojson }}", "the method 'upper' would be written"),
        ("{{ joiner }}", "the function 'joiner' would be written, as the row has no field of that name"),
        ("{{ tags | map('upper') }}", r"not what it yields: add \| list"),
        ("{{ self }}", r'self is a name of Jinja2\'s own here: a field of that name is row\["self"\]'),
        ("{% for x in [1] %}{{ loop }}{% endfor %}", "loop is a name of Jinja2's own"),
        ("{{ text.encode() }}", "a value of the type bytes has no text"),
        ("{{ namespace(a=1) }}", "a value of the type Namespace has no text"),
        ("{{ [day] }}", "a value of the type date has no form in JSON"),
        ("{{ bag.pop('a') }}", "'dict object' has no attribute 'pop'"),
        ("{{ row.update({'a': 1}) }}", "'dict object' has no attribute 'update'"),
        ("{{ row['update'] }}", "'dict object' has no attribute 'update'"),
        ("{{ tags.append(1) }}", "SecurityError"),
        ("{{ (row | attr('clear'))() }}", "SecurityError|has no attribute"),
        ("{{ user-id }}", r"""'user' is undefined; .*; did you mean row\["user-id"\]\?"""),
        ("{{ [nothing] | tojson }}", "'nothing' is undefined"),
        ("{{ nothing | center }}", "'nothing' is undefined"),
        ("{{ nothing | upper }}", "'nothing' is undefined"),
        ("{{ nothing | int(5) }}", "'nothing' is undefined"),
        ("{{ text | int }}", "the filter int got what is no number"),
        ("{{ tags | float }}", "the filter float got what is no number"),
    ],
)
def test_what_is_no_value_of_the_row_is_an_error_that_names_it(template: str, message: str) -> None:
    row = copy.deepcopy(ROW)
    with pytest.raises(PromptError, match=message) as caught:
        Prompt(template, may_be_blank=True).render(row)
    assert "row 4" in str(caught.value)
    assert "你好" not in str(caught.value)
    assert row == ROW


@pytest.mark.parametrize("template", ["{{ none }}", "{{ 'a' ~ none }}", "{{ tags | join }}", "{{ none | upper }}"])
def test_a_null_is_an_error_where_that_is_set(template: str) -> None:
    with pytest.raises(PromptError, match=r"row 4 cannot be made: a null would be written: say what stands for it"):
        Prompt(template, null="error").render(ROW)
    assert Prompt("{{ none or '-' }}{{ bag }}{{ none is none }}", null="error").render(ROW) == (
        '-{"a": 1, "b": null}true'
    )


def test_null_is_a_setting_of_the_operator() -> None:
    with pytest.raises(ConfigError, match="null must be one of 'empty', 'error', not 'none'"):
        LLMOperator("a", model="m", null="none")  # type: ignore[arg-type] # what is tested


def test_a_field_row_is_told_from_the_whole_row() -> None:
    with pytest.raises(PromptError, match=r'row 1 says row, .* write row\["row"\] for the field, or rename it'):
        Prompt("{{ row }}").render({"_i": 1, "row": "mine"})
    assert Prompt('{{ row["row"] }} {{ row["user-id"] }}').render({"row": "mine", "user-id": 3}) == "mine 3"
    assert Prompt("{{ arrow }}").render({"row": "mine", "arrow": "↑"}) == "↑"
    assert Prompt("{% for row in [1] %}{{ row }}{% endfor %}").render({"q": 2}) == "1"


def test_odd_names_are_reached_from_yaml() -> None:
    text = yaml.safe_load("""prompt: "{{ row['user-id'] }} {{ row[\\"Question Text\\"] }}"\n""")["prompt"]
    assert Prompt(text).render(ROW) == "u7 why?"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** 10 * 'x' }}",
        "{{ ['x'] * 10 ** 10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (9999999999, 1) }}",
        "{{ '%.9999999999f' | format(1) }}",
        "{{ '{:>9999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 9999999999) }}",
        "{{ 'x'.ljust(10 ** 10) }}",
        "{{ 'x'.center(10 ** 10) }}",
        "{{ '1'.zfill(10 ** 10) }}",
        "{{ '\t'.expandtabs(10 ** 10) }}",
        "{{ ('x' * 9000).replace('x', 'y' * 9000) }}",
        "{{ ('x' * 9000) | replace('x', 'y' * 9000) }}",
        "{{ ('x' * 9000).join('a' * 9000) }}",
        "{{ ('a' * 9000) | join('x' * 9000) }}",
        "{{ ('a' * 9000).translate({97: 'x' * 9000}) }}",
        "{{ 'x' | center(10 ** 10) }}",
        "{{ 'x' | center(width=10 ** 10) }}",
        "{{ 'x\ny' | indent(10 ** 10) }}",
        "{{ ('x ' * 9000) | wordwrap(1, wrapstring='y' * 9000) }}",
        "{{ [1] | batch(10 ** 10, 'x') | list }}",
        "{{ [1] | slice(10 ** 10) | list }}",
        "{{ bag | tojson(indent=10 ** 10) }}",
        "{{ [[['x' * 9000] * 100] * 100] * 100 }}",
        "{{ lipsum(n=10 ** 10) }}",
        "{% for n in range(10 ** 10) %}x{% endfor %}",
        "{% for n in range(90000) %}{{ 'x' * 9000 }}{% endfor %}",
        "{% set s %}{% for n in range(90000) %}{{ 'x' * 9000 }}{% endfor %}{% endset %}",
        "{% macro m() %}{% for n in range(90000) %}{{ 'x' * 9000 }}{% endfor %}{% endmacro %}{{ m() }}",
        "{% set n = namespace(s='xx') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='xx') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{{ (1).to_bytes(10 ** 10) }}",
    ],
)
def test_a_gigantic_rendering_is_an_error_before_it_is_made(template: str) -> None:
    tracemalloc.start()
    try:
        prompt = Prompt(template, may_be_blank=True)
        with pytest.raises(PromptError, match="prompt of row 4 cannot be made"):
            prompt.render(ROW)
        assert tracemalloc.get_traced_memory()[1] < 5 * MAX_PROMPT_CHARS
    finally:
        tracemalloc.stop()


def test_a_large_field_is_sent_as_it_is() -> None:
    text = "x" * (MAX_PROMPT_CHARS - 1)
    assert Prompt("{{ q }}!").render({"q": text}) == f"{text}!"
    with pytest.raises(PromptError, match="the template would give more than 10,485,760 characters"):
        Prompt("{{ q }}!!").render({"q": text})


@pytest.mark.parametrize(
    ("template", "fields", "hint"),
    [
        ("{{ row['Question Text'] }}", {"user-id": 1, "Question text": "a"}, 'did you mean row["Question text"]?'),
        ("{{ user-id }}", {"user-id": 1, "text": "a"}, 'did you mean row["user-id"]?'),
        ("{{ txet }}", {"user-id": 1, "text": "a"}, "did you mean text?"),
        ("{{ meta.lang }}", {"meta.lang": "de"}, 'did you mean row["meta.lang"]?'),
    ],
)
def test_the_nearest_field_is_named_as_it_is_written(template: str, fields: dict[str, Any], hint: str) -> None:
    """12.2.5: which column is meant, and how a name that is no identifier is reached."""
    with pytest.raises(PromptError) as caught:
        Prompt(template).render({**fields, "_i": 3})
    assert str(caught.value).endswith(hint)


def test_a_field_that_is_near_to_no_name_is_not_guessed() -> None:
    with pytest.raises(PromptError) as caught:
        Prompt("{{ question }}").render({"user-id": 1, "_i": 3})
    assert str(caught.value).endswith("the row has: user-id, _i")


def test_a_name_with_spaces_is_told_how_to_be_written() -> None:
    """12.2.5: it is no Jinja2 at all, so the template is refused when it is made."""
    with pytest.raises(ConfigError, match=r'spaces in its name is written \{\{ row\["Question Text"\] \}\}'):
        Prompt("Answer: {{ Question Text }}")
