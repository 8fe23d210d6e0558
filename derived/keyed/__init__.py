"""Keyed projections: copies that hold rows per aggregate, independent of the store.

Belongs here: what all of them share (the newest version of every key wins, positions, parking, rebuilding from the
lake), over a port that each kind of store implements. Does not belong here: a store's own statements
(`derived/read_models/`: PostgreSQL), what one copy holds (modules named after it), the loop that feeds them
(`streams/consumer.py`).
"""
