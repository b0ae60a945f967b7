"""How an answer becomes columns.

Layout:
    ask.py          asks, reads the answer, has it repaired
    formats.py      what an answer must look like, and the rows that it becomes: one text, or
    json_formats.py JSON, to a schema or a model
    shapes.py       which rows and columns a schema makes
    strict.py       the schemas that endpoints can hold a model to
    json_schema.py  JSON schemas, checked
    reading.py      JSON, also out of what models put around it
    surroundings.py whether the words around JSON give it as the answer
    columns.py      what the row gets; no column is overwritten
    new_row.py      the row with its columns, and with _meta
    provenance.py   where an answer comes from: the column _meta
    call_log.py     what was asked, and answered, in the folder of the run
"""
