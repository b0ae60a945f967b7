"""One call over HTTP, and what providers do differently.

Layout:
    client.py           one HTTP call
    post.py             what posts it: one of three
    direct/             over connections of this package, for little processor time
    sessions/           by aiohttp: through a proxy, or with an answer that is streamed
    socket_watch.py     which connections may be used again, of both
    access.py           how an endpoint is reached, with which key
    answering.py        what a response says: an answer, or an error
    response.py         what came back
    failures.py         the errors of a call that brought no answer
    network_errors.py   the errors of connections
    address.py          where calls go, and the key
    network.py          the way there: proxies and certificates
    body.py             a response's body, up to a bound
    streaming/          answers that come event by event
    adapters.py         what an adapter is: what providers do differently
    providers/          adapters of the APIs of single providers, and of chat completions
    own_turns.py        turns that an API wants back as it wrote them
    prompt_cache.py     the beginning of prompts that an API is told to cache
    api_client.py       calls of the API beside those for answers
    batch/              jobs of many requests
    structured_modes.py the ways to ask for JSON
    structured.py       the layer that asks in the best way that an endpoint knows
    reading.py          what answers hold: texts in parts, counts
    error_meaning.py    what a failure means
    redaction.py        secrets are taken out of errors
"""
