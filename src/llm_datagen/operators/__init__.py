"""Operators: what users write, and how the engine calls it, names it and tells one version from another.

* `base`: the protocol, its base class, functions as operators
* `references`, `arguments`, `import_path`: from an operator to plain data that the run state keeps, and back
* `fingerprint`: what an operator's answers depend on, as digests
"""

from llm_datagen.operators.base import (
    BaseOperator,
    Call,
    FunctionOperator,
    INodeContext,
    IOperator,
    Row,
    as_operator,
    batch_by_of,
    kept_files,
    made_with,
    operator_name,
)

__all__ = [
    "BaseOperator",
    "Call",
    "FunctionOperator",
    "INodeContext",
    "IOperator",
    "Row",
    "as_operator",
    "batch_by_of",
    "kept_files",
    "made_with",
    "operator_name",
]
