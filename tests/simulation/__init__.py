"""A simulation of sharded runs that are too large for a test: ``python -m tests.simulation``.

`scenario` says what is simulated, `agenda` is the clock, `limit` hands out slices of a limit, `plans` makes a plan by
the code of the package, `workers` and `cluster` run its ranges, `tally` counts what happened and checks the invariants.
`pieces` measures what one shard leaves and costs.
"""
