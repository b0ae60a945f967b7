"""Tests of the actors: mailbox, stages, and runs that are stopped, failed and cancelled at random."""
