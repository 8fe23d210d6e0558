"""The story of one order over all stores, for `tieout explain`.

Belongs here: reading what every store holds of an order, and finding contradictions in it. Does not belong here: how it
is shown (`cli/commands/explain.py`).
"""
