"""What calls cost, and a budget that holds.

Layout:
    prices.py     what tokens cost
    metered.py    what each try costs, and whether the run may spend that
    believing.py  which counts of tokens are believed
    budget.py     what a run may spend, and the most that a call can cost
    spend.py     what a run has spent, and what calls in flight may
    ledgerfile.py the file of that
"""
