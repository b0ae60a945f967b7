"""Fixtures: every test leaves nothing behind."""

from __future__ import annotations

from ..kit.clean import clean

__all__ = ["clean"]
