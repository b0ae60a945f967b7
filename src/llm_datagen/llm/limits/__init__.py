"""What an endpoint allows: calls and tokens per minute, calls at once.

Layout:
    layer.py                delays calls until the endpoint's limits have room
    limiter.py              which call may be made now
    permit.py               what it and its callers hand to each other
    shared.py               all operators of the process share the limiters, and processes share limits by grants
    adaptive_concurrency.py how many calls may be in flight
    header_quota.py         what an endpoint has said is left
    headers.py              how it says so
    sliding_window.py       what was sent within the last minute
    token_estimate.py       how many tokens a call may use
"""
