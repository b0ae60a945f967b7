"""Tests of the command line: what is typed, what is shown, and with which code it ends."""
