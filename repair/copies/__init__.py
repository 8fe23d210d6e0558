"""How each copy is repaired: which action its breaks need, and which go to people.

Belongs here: a module per copy, named after it; one for all read models, which are repaired alike. Does not belong
here: which of them a break belongs to (`repair/plan.py`), what an aggregate needs (`repair/remedies.py`).
"""
