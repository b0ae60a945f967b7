"""How an answer becomes columns.

Layout:
    ask.py         asks, reads the answer, has it repaired
    problems.py    why an answer is no data
    formats.py     what an answer must look like, and the rows that it becomes
    shapes.py      which rows and columns a schema makes
    strict.py      the schemas that endpoints can hold a model to
    json_schema.py JSON schemas, checked
    reading.py     JSON, also out of what models put around it
    columns.py     no column of the row is overwritten
    extras.py      what comes besides the text, as columns
    provenance.py  where an answer comes from: the column _meta
"""
