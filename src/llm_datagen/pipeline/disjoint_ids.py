"""Which streams cannot hold the same ids: how the rows of several inputs of a node are told apart.

Rows of different inputs may have the same id: those of two files are both numbered from 0, and two nodes that read one
stream keep its ids. Then all of them are named after their input, as children are after their row: ``7_left``. Rows
that were sent to different outputs of one node cannot: they keep their ids. So does what is made of them, but for the
scheme "numeric", under which children are numbers as others are.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.fan_out import Selector
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.streams import MergedStream, Place


def choose_merge_ids(nodes: Sequence[UnifiedNode]) -> None:
    """Decide of each node that merges how its rows are named, and which of its inputs are read as they are.

    Args:
        nodes: all nodes of a pipeline, each behind those that it reads from.

    Raises:
        ConfigError: when ids are to be kept, and rows of two inputs may have the same one.
    """
    writers = _Writers(nodes)
    for node in nodes:
        if isinstance(node.input, MergedStream):
            inputs = {merge_input.name: merge_input.stream for merge_input in node.input.inputs}
            places = node.input.places
            pairs = [(a, b) for at, a in enumerate(places) for b in places[:at]]
            overlapping = [pair for pair in pairs if not writers.have_disjoint_ids(*pair)]
            if overlapping and node.ids == "keep":
                names = {stream.place: name for name, stream in inputs.items()}
                one, other = sorted(names[place] for place in overlapping[0])
                node_id = node.node_id.removesuffix(".merge")
                raise ConfigError(
                    f'node {node_id}: ids="keep": rows of {one!r} and {other!r} may have the '
                    'same id; ids="rename" names them after their input. Only rows that one node has sent to different '
                    "outputs, and what is made of them, cannot"
                )
            naming = node.input.naming if overlapping or node.ids == "rename" else "kept"
            static = [name for name, stream in inputs.items() if not node.follow_input and stream.place not in writers]
            uris = {name: stream.uri for name, stream in inputs.items()}
            node.bind_io(MergedStream.uri_of(naming, uris, static), node.output)
            node.follow_input = True  # what is not followed is static


class _Writers:
    """Who writes what.

    Args:
        nodes: all nodes of a pipeline, each behind those that it reads from.
    """

    def __init__(self, nodes: Sequence[UnifiedNode]) -> None:
        self._writers = {node.output.place: (number, node) for number, node in enumerate(nodes)}
        self._known: dict[tuple[Place, Place], bool] = {}

    def __contains__(self, place: Place) -> bool:
        return place in self._writers

    def have_disjoint_ids(self, a: Place, b: Place) -> bool:
        """Return whether no row of one stream can have the id of a row of the other.

        Sure of that are the outputs of one node, since it puts each row into one of them, and what is made of these.
        """
        if (a, b) not in self._known:
            self._known[a, b] = self._look(a, b)
        return self._known[a, b]

    def _look(self, a: Place, b: Place) -> bool:
        if a == b or (a not in self and b not in self):
            return False
        if a not in self or (b in self and self._writers[b][0] > self._writers[a][0]):
            a, b = b, a  # the later one: it is made from the other, or both are made from something before
        node = self._writers[a][1]
        other = self._writers[b][1] if b in self else None
        if other is not None and _selects(node) and _selects(other) and node.input.place == other.input.place:
            return True
        if isinstance(node.input, MergedStream) and node.input.naming != "kept":
            return False  # what is renamed here may meet a row that has such a name of its own
        if node.settings["id_scheme"] == "numeric":
            return False  # a child of row 7 may meet row 70000
        return all(self.have_disjoint_ids(place, b) for place in node.input.places)


def _selects(node: UnifiedNode) -> bool:
    return isinstance(node.operator, Selector)
