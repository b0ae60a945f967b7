"""How an answer becomes columns.

Layout:
    asking.py      asks, reads the answer, has it repaired
    problems.py    why an answer is no data
    schemas.py     what an answer must look like, and the columns that it becomes
    jsonschemas.py JSON schemas, checked
    provenance.py  where an answer comes from: the column _meta
"""
