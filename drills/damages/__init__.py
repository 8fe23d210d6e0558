"""Damages: everything that can go wrong with what a store holds, done by hand, and what must become of it.

Belongs here: a module for each store that is damaged (a read model's is named after it), the rounds in which they are
done, judging what came of them. Does not belong here: having them found and repaired (`bench/repairs.py`, tests), and
stores that are down (`drills/cells.py`).
"""
