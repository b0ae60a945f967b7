"""Tests of what happens when a run does not end well: failures, cancels, signals, kill -9; and of going on after it."""
