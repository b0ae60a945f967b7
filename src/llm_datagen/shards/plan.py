"""The plan of a run in shards: which rows of the input each shard does. It is made once, and never lists rows.

A *cut* is a place in the input where a row begins. A *range* lies between two cuts; each shard does one. The plan keeps
more cuts than its ranges need: at those, a range can be split later, when a shard is slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

from llm_datagen.config import check_count
from llm_datagen.errors import ConfigError, RunError, StreamChangedError
from llm_datagen.pipeline.stream_checks import check_input
from llm_datagen.shards.marks import Mark, marks_in
from llm_datagen.streams import Source, Stream
from llm_datagen.streams.inputs.derived import DerivedStream
from llm_datagen.streams.inputs.part import Part
from llm_datagen.streams.inputs.planned_input import changed_since, noted_of, noted_of_part

FORMAT = 1
"""The version of the format of a plan."""

GRAIN = 16
"""How many times as many cuts as shards a plan has, about."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A place in the input where a row begins, or where the input ends.

    Attributes:
        row: the number of the row.
        at: its address.
        seek: what helps to find it; see `Part`.
    """

    row: int
    at: int
    seek: tuple[int, ...] = ()

    def as_list(self) -> list[Any]:
        """Return it as plain data."""
        return [self.row, self.at, *([list(self.seek)] if self.seek else [])]

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return what `as_list` has made plain data of."""
        row, at, *seek = value
        return cls(row, at, tuple(*seek))


@dataclass(frozen=True, slots=True)
class ShardRange:
    """The rows of one shard.

    Attributes:
        number: the number of the shard, from 0.
        first: where they begin.
        last: where they end: the first row that is not among them.
    """

    number: int
    first: Cut
    last: Cut

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.last.row - self.first.row


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """Which rows of an input each shard does.

    Attributes:
        input_uri: the input.
        fingerprint: what tells whether it was changed since; see `planned_input`.
        shards: with how many ranges the plan began.
        cuts: where ranges may be split, in order.
        ranges: the ranges, in the order of the input, without gap or overlap. There are as many as `shards`, and one
            more for each split. Some are empty when there are fewer rows; those come last.
    """

    input_uri: str
    fingerprint: Any
    shards: int
    cuts: tuple[Cut, ...]
    ranges: tuple[ShardRange, ...]

    @property
    def rows(self) -> int:
        """How many rows the input has."""
        return self.ranges[-1].last.row

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "format": FORMAT,
            "input_uri": self.input_uri,
            "fingerprint": self.fingerprint,
            "shards": self.shards,
            "cuts": [cut.as_list() for cut in self.cuts],
            "ranges": [[each.number, each.first.as_list(), each.last.as_list()] for each in self.ranges],
        }

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Return what `as_dict` has made plain data of.

        Raises:
            ValueError: when it is no plan, or not one of this format.
        """
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"it has format {value['format']}, and this version reads {FORMAT}")
            ranges = tuple(ShardRange(number, Cut.of(first), Cut.of(last)) for number, first, last in value["ranges"])
            cuts = tuple(map(Cut.of, value["cuts"]))
            plan = cls(value["input_uri"], value["fingerprint"], value["shards"], cuts, ranges)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"it is no plan: {error!r}") from error
        plan._check()
        return plan

    def range_of(self, number: int) -> ShardRange:
        """Return the range of a shard.

        Raises:
            RunError: when there is no such shard.
        """
        for each in self.ranges:
            if each.number == number:
                return each
        raise RunError(f"there is no shard {number}: the plan has {len(self.ranges)}, from 0")

    def range_of_row(self, row: int) -> ShardRange:
        """Return the range that has a row, by its number in the input.

        Raises:
            RunError: when the input has no such row.
        """
        for each in self.ranges:
            if each.first.row <= row < each.last.row:
                return each
        raise RunError(f"{self.input_uri} has no row {row}: it has {self.rows}, numbered from 0")

    def part_uri(self, of: ShardRange) -> str:
        """Return the URI that reads a range."""
        first, last = of.first, of.last
        return Part(self.input_uri, (first.row, first.at), (last.row, last.at), first.seek).as_uri

    def fingerprint_of(self, of: ShardRange) -> Any:
        """Return the fingerprint of a range, for the run state of its shard: of many files, those that it touches."""
        return noted_of_part(self.fingerprint, of.first.at, of.last.at)

    def cuts_in(self, of: ShardRange) -> list[Cut]:
        """Return where a range may be split, in order."""
        return [cut for cut in self.cuts if of.first.row < cut.row < of.last.row]

    def split(self, number: int, cut: Cut) -> Self:
        """Return the plan after a range was split: what is behind the cut is a range with the next free number.

        Where it is split there already, nothing changes.

        Raises:
            RunError: when there is no such shard, or the cut does not lie in its range.
        """
        old = self.range_of(number)
        if old.last.row == cut.row:
            return self
        if not old.first.row < cut.row < old.last.row:
            raise RunError(
                f"shard {number} cannot be split at row {cut.row}: it has the rows {old.first.row} to {old.last.row}"
            )
        new = ShardRange(1 + max(each.number for each in self.ranges), cut, old.last)
        ranges: list[ShardRange] = []
        for each in self.ranges:
            ranges += [replace(old, last=cut), new] if each is old else [each]
        return replace(self, ranges=tuple(ranges))

    def _check(self) -> None:
        """Check that the ranges are the input, without gap or overlap, each with a number of its own."""
        if not self.ranges or self.ranges[0].first.row != 0:
            raise ValueError("its ranges do not begin with the first row")
        if len({each.number for each in self.ranges}) < len(self.ranges):
            raise ValueError("two of its ranges have one number")
        for one, following in pairwise(self.ranges):
            if one.last != following.first:
                raise ValueError(f"shard {one.number} ends at row {one.last.row}, and {following.first.row} follows")


def plan_shards(source: Source, shards: int, grain: int = GRAIN) -> ShardPlan:
    """Split an input into ranges of about equal size: of bytes, or of rows where rows do not lie at bytes.

    The input is read once, undecoded; of tables, only what says how many rows they have. Memory does not follow it.

    Args:
        source: the input, with the settings that it is read with (`with_data`).
        shards: how many ranges.
        grain: how many cuts there are for each, about.

    Raises:
        ConfigError: when it cannot be split.
        StreamError: when it cannot be read, or is the unfinished output of another run.
        StreamChangedError: when it was changed while it was read.
    """
    check_count("shards", shards)
    check_count("grain", grain)
    if not isinstance(source, Stream) or isinstance(source, DerivedStream):
        raise ConfigError(f"{source.uri} cannot be split into shards; write its rows to a file first, and give that")
    check_input(source)
    source.check_source()
    fingerprint = noted_of(source)
    marks = list(marks_in(source, shards * grain))
    if (what := changed_since(source, fingerprint)) is not None:
        raise StreamChangedError(f"{source.path} {what}: it was changed while its shards were planned; do it again")
    return ShardPlan(source.uri, fingerprint, shards, tuple(_cuts(marks[1:-1])), tuple(_ranges(marks, shards)))


def _cuts(marks: Iterable[Mark]) -> Iterable[Cut]:
    return (Cut(mark.row, mark.at, mark.seek) for mark in marks)


def _ranges(marks: list[Mark], shards: int) -> Iterable[ShardRange]:
    """Yield the ranges: each ends nearest to its share of what those before it have left."""
    at, last = 0, len(marks) - 1
    places = list(_cuts(marks))
    for number in range(shards):
        begin, weight = at, marks[at].weight
        wanted = weight + (marks[last].weight - weight) / (shards - number)
        while at < last and (at == begin or marks[at].weight + marks[at + 1].weight < 2 * wanted):
            at += 1
        at = last if number == shards - 1 else at
        yield ShardRange(number, places[begin], places[at])
