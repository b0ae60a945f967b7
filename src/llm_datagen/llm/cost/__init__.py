"""What calls cost, and a budget that holds.

Layout:
    prices.py       what tokens cost
    layer.py        what each try costs, and whether the run may spend that
    plausibility.py which counts of tokens are believed
    budget.py       what a run may spend, and the most that a call can cost
    spend.py        what a run has spent, and what calls in flight may
    spend_file.py   the file of that
    shared_spend.py the same, where other processes share the budget
    holding.py      what a run holds of a shared budget
"""
