"""Which keys are certainly not in a table: most keys that an operator asks for are new, and asking SQLite costs more.

A Bloom filter, in layers: each key sets two bits of the last layer, and a key of which a layer lacks a bit is not in
it. When a layer has its share of keys, a larger one is begun; the last one takes all that come. Keys that are deleted
stay. With 16 bits per key, one key in seventy is looked for in vain; beyond the room of the last layer, more are.
"""

from __future__ import annotations

from collections.abc import Iterable

_LAYER_BYTES = (1 << 20, 8 << 20, 32 << 20)
"""Room for half a million, 4 million and 16 million keys: a layer is made when it is needed."""

_BYTES_PER_KEY = 2
_SHIFT = 29
"""Between the bits of a hash that choose the first bit of a layer and the second."""


class KeyFilter:
    """The keys of a table, as far as they can be told from others. One thread at a time may use it."""

    def __init__(self) -> None:
        self._layers = [bytearray(_LAYER_BYTES[0])]
        self._room = _LAYER_BYTES[0] // _BYTES_PER_KEY

    def __contains__(self, key: bytes) -> bool:
        """Return whether a key may be there: False is certain."""
        number = hash(key)
        other = number >> _SHIFT
        for layer in self._layers:
            mask = len(layer) - 1
            if layer[(number >> 3) & mask] >> (number & 7) & 1 and layer[(other >> 3) & mask] >> (other & 7) & 1:
                return True
        return False

    def add(self, keys: Iterable[bytes]) -> None:
        """Add keys."""
        layer = self._layers[-1]
        mask, room = len(layer) - 1, self._room
        for number in map(hash, keys):
            if not room and len(self._layers) < len(_LAYER_BYTES):
                layer = bytearray(_LAYER_BYTES[len(self._layers)])
                self._layers.append(layer)
                mask, room = len(layer) - 1, len(layer) // _BYTES_PER_KEY
            layer[(number >> 3) & mask] |= 1 << (number & 7)
            other = number >> _SHIFT
            layer[(other >> 3) & mask] |= 1 << (other & 7)
            room -= 1
        self._room = room
