"""One call over HTTP, and what providers do differently.

Layout:
    client.py    one HTTP call
    endpoint.py  where calls go, and the key
    network.py   the way there: proxies and certificates
    body.py      a response's body, up to a bound
    adapters.py  what providers do differently, and chat completions
    modes.py     the ways to ask for JSON
    structured.py asks in the best way that an endpoint knows
    anthropic.py Anthropic's Messages API
    reading.py   what answers hold: texts in parts, counts
    meaning.py   what a failure means
    masking.py   secrets are taken out of errors
"""
