"""Which endpoint is asked, when it is asked again, and what becomes of an outage.

Layout:
    pool.py     which endpoint a call goes to
    member.py   an endpoint of a pool
    health.py   whether an endpoint answers: the circuit breaker
    gate.py     lets nothing but probes through to an endpoint that is down
    outage.py   no endpoint answers: calls wait, and the run fails in the end
    retrying.py tries again
"""
