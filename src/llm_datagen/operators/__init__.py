"""Operators: what users write, and how the engine calls, names and compares it.

An operator has one of two methods, plain or ``async def``:

* ``process_item(item, ctx)``: one row in; the items of a batch are processed concurrently.
* ``process_batch(items, ctx)``: the author owns the batch.

Each call may return a row (1:1), ``None`` (filtered), or a list (1:N, flattened). A function is an operator, too.

Layout:
    protocols.py       the types: rows, results, operators, the context of a node
    base.py            the class to inherit from
    current_rows.py    which rows the call that is running has
    before_delivery.py what is done once for many results, before they go on
    call.py            functions as operators; which method is called, and how
    majority.py        what most votes say
    references.py      from an operator to plain data in the run state, and back
    arguments.py       the arguments of an operator as plain data
    import_path.py     ``module:name`` to what it names, and back
    secret_names.py    which names are those of secrets
    fingerprint/       what an operator's answers depend on, as digests
"""

from llm_datagen.operators.base import BaseOperator, made_with
from llm_datagen.operators.call import (
    Call,
    FunctionOperator,
    as_operator,
    batch_by_of,
    check_end_ids,
    kept_files,
    operator_name,
    operators_within,
    take_nature,
)
from llm_datagen.operators.protocols import INodeContext, IOperator, IState, Operator, Result, Row

__all__ = [
    "BaseOperator",
    "Call",
    "FunctionOperator",
    "INodeContext",
    "IOperator",
    "IState",
    "Operator",
    "Result",
    "Row",
    "as_operator",
    "batch_by_of",
    "check_end_ids",
    "kept_files",
    "made_with",
    "operator_name",
    "operators_within",
    "take_nature",
]
