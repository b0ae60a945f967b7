"""What is kept of calls: the cache, cassettes, and a watch for previews.

Layout:
    cache.py      answers that were paid for are kept
    journalfile.py  the file that they are kept in
    sharing.py      which rows share an answer
    cassette.py     calls recorded and played again, for tests
    cassettefile.py the file that they are recorded in
    watching.py     calls noted, for a preview
"""
