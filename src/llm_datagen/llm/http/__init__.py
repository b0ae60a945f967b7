"""One call over HTTP, and what providers do differently.

Layout:
    client.py    one HTTP call
    adapters.py  what providers do differently, and chat completions
    anthropic.py Anthropic's Messages API
    masking.py
"""
