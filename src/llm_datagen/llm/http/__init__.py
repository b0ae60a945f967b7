"""One call over HTTP, and what providers do differently.

Layout:
    client.py           one HTTP call
    failures.py         the errors of a call that brought no answer
    address.py          where calls go, and the key
    network.py          the way there: proxies and certificates
    body.py             a response's body, up to a bound
    adapters.py         what providers do differently, and chat completions
    providers/          adapters of the APIs of single providers
    structured_modes.py the ways to ask for JSON
    structured.py       the layer that asks in the best way that an endpoint knows
    reading.py          what answers hold: texts in parts, counts
    error_meaning.py    what a failure means
    redaction.py        secrets are taken out of errors
"""
