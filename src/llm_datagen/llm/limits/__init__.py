"""What an endpoint allows: calls and tokens a minute, calls at once.

Layout:
    limited.py   holds calls back until the endpoint's limits have room
    limiter.py   who may call an endpoint now
    limiters.py  all callers of the process share them
    ceiling.py   how many calls may be in flight
    allowance.py what an endpoint has said is left
    headers.py   how it says so
    window.py    what was sent within the last minute
    estimate.py  how many tokens a call may use
"""
