"""Damages: every way in which the data of a store can become wrong, made on purpose, and the required outcome.

Belongs here: a module for each damaged store (the module of a read model has its name), the rounds of damages, and the
judging of outcomes. Does not belong here: running comparison and repair (`bench/repairs.py`, tests), and stores that
are down (`drills/cells.py`).
"""
