"""Scores of documents: the APIs that give them, and what is checked.

Layout:
    adapters.py  the API that most have, and the base of all adapters
    providers.py what providers do differently
    scores.py    scores are counted and checked
"""
