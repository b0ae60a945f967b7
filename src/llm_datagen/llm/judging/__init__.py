"""How a judge is asked, and what its answers become.

Layout:
    options.py   what a user says of a judge
    scales.py    what a score can be
    questions.py the prompt and the schema of an answer: of one text, or of two that are compared
    outcomes.py  columns of the answers of all judges
"""
