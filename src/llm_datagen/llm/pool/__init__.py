"""Which endpoint is asked, when it is asked again, and what becomes of an outage.

Layout:
    pool.py            which endpoint a call goes to
    member.py          an endpoint of a pool
    circuit_breaker.py lets nothing but probes through to an endpoint that is down
    outage.py          no endpoint answers: calls wait, and the run fails in the end
    retry.py           tries again
"""
