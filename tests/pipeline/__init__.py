"""Tests of whole pipelines and nodes, as users run them: real files, real actors."""
