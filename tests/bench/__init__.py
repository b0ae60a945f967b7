"""Benchmarks: how near the engine is to a plain loop, and what has become of that since another revision.

    python -m tests.bench                          everything but what is big, 5 times
    python -m tests.bench --list                   the workloads, and the figures they should reach
    python -m tests.bench 'identity-1m-*' clean    some of them (patterns as in a shell)
    python -m tests.bench --quick                  a twentieth of the rows, twice: does it work, is it about right?
    python -m tests.bench --json figures.json      also write the figures, with every sample
    python -m tests.bench --vs HEAD~3              this tree against that revision
    python -m tests.bench linearity --folder /big  what needs much room (5 GB) must be asked for by name
    python -m tests.bench --peer-python P          datatrove is in the environment of that interpreter

How it measures. Every sample is a process of its own. What is compared runs in turn, A B A B, so that what else the
machine does hits both; figures are medians. The *plain loop* is what one would write by hand: one process, blocks of
bytes, `orjson.loads`, add `_i`, the operator, `orjson.dumps`, a buffered write; nothing is committed, checked or
resumable. The engine runs with its default settings: commits, checksums, ids, resume, the log, `fsync="close"`.

* *work* is the time of the work alone: for the loop from opening to closing its files, for the engine from the
  pipeline's constructor to the return of `run()`. *process* is the time from starting the process to its end, with the
  interpreter and the imports.
* *ratio* = work of the plain loop / work of the engine: 1 is as fast as the loop, 0.5 takes twice as long. This is the
  figure that has goals. *whole* is the same of *process*. *synced* is the ratio when the loop's `fsync` is counted
  too, as the engine's is: what commits and actors cost, without what the disk costs.
* *cpu* is the processor time of the process and its workers; *peak* the most memory it had (`VmHWM`; with worker
  processes the most that all of them had at one moment, pages that they share counted in each).

Before a ratio is believed, results are compared: the rows of the engine, with their ids, must be those of the loop.
`--vs` compares this tree with another one: ratio = that one's time / this one's, so above 1 this one is faster.

The data is made once, with a fixed seed, and kept in `--folder`; what is over a gigabyte is deleted after use,
and what is kept is deleted to make room for a big workload.

To add a workload: a function in `operators.py`, an entry in `workloads.py`. `kinds.py` says what is compared and
what the figures are, `child.py` is the process that is measured, `measure.py` starts it, `compare.py` runs them in
turn.
"""
