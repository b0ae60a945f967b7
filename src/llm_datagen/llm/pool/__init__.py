"""Which endpoint is asked, when a call is repeated, and what happens in an outage.

Layout:
    pool.py            which endpoint a call goes to
    member.py          an endpoint of a pool
    circuit_breaker.py lets nothing but probes through to an endpoint that is down
    outage.py          no endpoint answers: calls wait, and the run fails in the end
    retry.py           repeats calls after transient errors
"""
