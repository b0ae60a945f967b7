"""Executors: how a block of rows meets an operator. See `work` for what happens, `threads` and `loop` for where."""
