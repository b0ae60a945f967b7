"""What is stored of calls: the response cache, and cassettes.

Layout:
    response_cache.py the layer: answers that were paid for are stored
    sqlite.py         the file of the cache
    scope.py          which rows share an answer
    cassette.py       the layer that records calls and plays them again, for tests
    cassette_file.py  the file of a cassette
"""
