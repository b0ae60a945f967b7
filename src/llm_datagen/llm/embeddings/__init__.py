"""Vectors of texts: the APIs that give them, how many rows share a request, and what is checked.

Layout:
    adapters.py  the API that most have, and the base of all adapters
    providers.py what providers do differently
    batching.py  calls that come together are made as one request
    length.py    all vectors of a node have the same length
    vectors.py   vectors are read, counted and checked
"""
