"""A run as people see it: in a terminal, in a notebook, in lines of text. Needs rich, but for `views`.

Layout:
    views.py    a node as it is shown
    board.py    what the hooks tell, kept for a display
    tables.py   nodes and numbers as tables and text
    console.py  a console of rich that foreign text cannot steer
    live.py     a display at a terminal: a table that moves
    notebook.py a display in a notebook
    plain.py    a display elsewhere: a line now and then
"""
