"""How the messages of a row are made.

Layout:
    messages.py    the messages of a row
    turns.py       what a prompt is made of
    images.py      images by URL or file
    template.py    Jinja2 templates over a row
    environment.py what templates may do
    bounds.py      how much they may do
    values.py      how a value of a row is written
"""
