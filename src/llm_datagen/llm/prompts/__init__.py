"""How the messages of a row are made.

Layout:
    conversation.py the messages of a row
    turns.py        what a prompt is made of
    images.py       images by URL or file
    prompts.py      Jinja2 templates over a row
"""
