"""Independent comparison: compares pairs of stores at a cut, down to the keys, with SQL of its own.

Belongs here: what is compared, how, and the results. Does not belong here: code of the stores that it checks (it shares
none, so that an error in their code does not hide itself), repair, or connections (callers pass them in).
"""
