"""The page of metrics and spans is what the code tells: names, kinds, units, labels, words."""

from __future__ import annotations

import re
from pathlib import Path

import llm_datagen
from llm_datagen.telemetry import attributes, gen_ai
from llm_datagen.telemetry.instruments import DESCRIBED
from llm_datagen.telemetry.prometheus_names import MEASURES
from llm_datagen.telemetry.prometheus_samples import STATUSES

from ..examples.pages import DOCS, names_in, table

PAGE = DOCS / "reference" / "metrics.md"
SOURCE = Path(llm_datagen.__file__).parent / "telemetry"


def test_the_metrics_of_prometheus_are_those_of_the_table() -> None:
    rows = {name.strip("`"): cells for name, cells in table(PAGE, "Prometheus", "metric").items()}
    assert list(rows) == list(MEASURES)
    for name, (kind, labels, text) in rows.items():
        measure = MEASURES[name]
        assert (kind, tuple(names_in(labels)), text) == (measure.kind, measure.labels, measure.help)
    page = PAGE.read_text(encoding="utf-8")
    assert set(STATUSES) <= set(names_in(page))


def test_the_metrics_of_open_telemetry_are_those_of_the_table() -> None:
    rows = {name.strip("`"): cells for name, cells in table(PAGE, "Metrics of OpenTelemetry", "metric").items()}
    assert list(rows) == list(DESCRIBED)
    for name, (kind, unit, names, text) in rows.items():
        told = DESCRIBED[name]
        assert (kind, names_in(unit), tuple(names_in(names)), text) == (
            told.kind, [told.unit], told.attributes, told.help,
        )  # fmt: skip


def test_every_attribute_is_on_the_page() -> None:
    page = set(names_in(PAGE.read_text(encoding="utf-8")))
    own = {value for name, value in vars(attributes).items() if name.isupper()}
    conventions = set(re.findall(r'"((?:gen_ai|server|error)\.[\w.]+)"', (SOURCE / "gen_ai.py").read_text()))
    conventions |= set(re.findall(r'"(gen_ai\.[\w.]+)"', (SOURCE / "call_spans.py").read_text()))
    assert len(own) > 8
    assert len(conventions) > 20
    assert own | conventions <= page
    assert {gen_ai.DURATION, gen_ai.TOKEN_USAGE} <= page
    told = {name for name in page if re.fullmatch(r"(gen_ai|server|error)\.[\w.]+", name)}
    assert told <= conventions
