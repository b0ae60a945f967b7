"""How many different values there are, about: HyperLogLog, with its registers in the state."""

from __future__ import annotations

import math

from llm_datagen.operators import IState

_REGISTERS = 4096
"""The standard error is 1.04 / sqrt(registers), 1.6 % (Flajolet, Fusy, Gandouet, Meunier: HyperLogLog, 2007).

Two of three results are within it. One of twenty is more than twice as far off, one of 400 more than three times.
"""

_BITS = 12


def note_value(state: IState, name: str, number: int) -> None:
    """Note a value.

    Args:
        state: where the registers are.
        name: whose they are.
        number: the value as 64 bits that are evenly spread.
    """
    register, rest = number % _REGISTERS, number >> _BITS
    rank = 64 - _BITS - rest.bit_length() + 1
    if rank > state.get(("register", name, register), 0):
        state["register", name, register] = rank


def distinct_values(state: IState, name: str) -> int:
    """Return how many different values were noted, about."""
    ranks: list[int] = [rank for _, rank in state.items("register", name)]
    empty = _REGISTERS - len(ranks)
    estimate: float = 0.7213 / (1 + 1.079 / _REGISTERS) * _REGISTERS**2 / (empty + sum(2.0**-rank for rank in ranks))
    if estimate <= 2.5 * _REGISTERS and empty:
        estimate = _REGISTERS * math.log(_REGISTERS / empty)
    return round(estimate)
