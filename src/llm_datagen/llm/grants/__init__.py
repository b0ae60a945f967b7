"""One budget and one limit over several processes, on one host or many: a service hands out grants.

Layout:
    service.py        the service: HTTP, one file, one thread
    __main__.py       the same as a program
    limit_account.py  what it knows of a limit: who holds how much, and what was used within the last minute
    budget_account.py what it knows of the budget: who holds how much of it
    line.py           who waits, in order
    account_file.py   what it writes down before it answers
    client.py         a process's thread that talks to the service, for all limits and budgets of the process
    limit_units.py    what a process holds of a limit
    units.py          amounts of what is shared, and caps on them
    messages.py       what they say to each other
    environment.py    the variables that name the service, or a fixed share where there is none
"""
