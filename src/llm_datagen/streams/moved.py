"""What is read when streams have got other places."""

from __future__ import annotations

from collections.abc import Mapping

from llm_datagen.streams.factory import StreamFactory
from llm_datagen.streams.merged import MergedStream
from llm_datagen.streams.storage.base import Place


def moved_uri(uri: str, uris: Mapping[Place, str]) -> str:
    """Return the URI of what a node reads, with its streams where they lie now.

    Args:
        uri: what it reads, as it was.
        uris: the new URIs of the streams that have another place, by the old places.
    """
    source = StreamFactory.source(uri)
    if not isinstance(source, MergedStream):
        return uris.get(source.place, uri)
    named = {each.name: uris.get(each.stream.place, each.stream.uri) for each in source.inputs}
    return MergedStream.uri_of(source.naming, named, [each.name for each in source.inputs if each.is_static])
