"""Fixtures: every test leaves nothing behind; and jobs that can be killed."""

from __future__ import annotations

import pytest

from ..kit.clean import clean
from ..kit.jobs import Jobs
from .left_by_jobs import JOB

__all__ = ["clean", "jobs"]


@pytest.fixture
def jobs() -> Jobs:
    """Runs of `job.py` that can be killed."""
    return Jobs(JOB)
