"""A run as people see it: in a terminal, in a notebook, in lines of text. Needs rich, except `node_view` and `lines`.

Layout:
    node_view.py  a node as it is shown
    model.py      what a display shows, from what the hooks report
    lines.py      nodes and numbers as lines of text
    tables.py     nodes as tables, and texts that fit into a line
    name_table.py a table that begins with names, and fits
    console.py    a console of rich that escapes foreign text
    terminal.py   whether a stream of text is a terminal
    live.py       a display at a terminal: a live table
    notebook.py   a display in a notebook
    plain.py      a display elsewhere: a line from time to time
"""
