"""What calls cost, and a budget that holds.

Layout:
    prices.py       what tokens cost, as a user says it
    known_prices.py what they cost by what is known of models
    layer.py        what each try costs, and whether the run may spend that
    gate.py         lets calls through that the budget has room for
    plausibility.py which counts of tokens are believed
    shares.py       what several answers used together, shared out
    budget.py       what a run may spend, and the most that a call can cost
    spend.py        what a run has spent, and what calls in flight may
    spend_file.py   the file of that
    shared_spend.py the same, where other processes share the budget
    holding.py      what a run holds of a shared budget
"""
