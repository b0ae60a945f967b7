"""Tests of runs in shards."""
