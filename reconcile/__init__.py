"""Independent comparison: each pair of stores read with SQL of its own, at a cut, down to the keys.

Belongs here: what is compared, how, and what was found. Does not belong here: code of the stores it checks (it shares
none, so that one fault cannot hide in both), repair, or connections (callers pass them in).
"""
