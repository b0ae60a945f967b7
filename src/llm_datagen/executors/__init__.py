"""Executors: how a block of rows meets an operator.

See `kernel` for what happens; `threads`, `event_loop` and `process` for where.
"""
