"""Tests of the executors: what a worker makes of a block of rows, on threads and on an event loop."""
