"""Tests of the operators for the work on data itself."""
