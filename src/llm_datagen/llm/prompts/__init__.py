"""How the messages of a row are made.

Layout:
    messages.py    the messages of a row
    prefix.py      what the messages of all rows begin with
    turns.py       what a prompt is made of
    images.py      images by URL or file
    template.py    Jinja2 templates over a row
    plain.py       templates that are text and names of fields: no Jinja2 is needed
    native.py      templates whose result is a value
    environment.py what templates may do
    bounds.py      how much they may do
    values.py      how a value of a row is written
"""
