"""The report of a run: one file that says what ran, what became of each row, and what it has cost.

Layout:
    model.py     what a report says: plain data, with the keys that its JSON has
    facts.py     the run and its nodes, from the run state
    accounts.py  what became of the rows, from the commits and seals of the streams
    samples.py   some rows, with all that they came from, and failures with an example each
    made.py      a report, put together
    drawing.py   the graph of a run, as SVG
    chart.py     a timeline, as SVG
    fragments.py parts of HTML
    page.py      a report as one HTML page
    what_ran.py  the part about the run, its streams and settings
    counts.py    the part about rows and time
    money.py     the part about what calls cost
    origins.py   the part about sample rows and failures; families.py where a sample row comes from
    text.py      foreign text, escaped and cut
    markdown.py  a report as a few lines of Markdown
"""
