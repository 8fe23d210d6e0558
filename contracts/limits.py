"""How large, how long and how many: every limit that a command keeps, and the sums that follow from them.

Belongs here: the limits as named values beside the types that they limit, so that commands, schemas, the database and
the documents say the same. Does not belong here: looking whether a value keeps them (`oltp/commands/checking.py`).

Why sums never overflow. What one row holds fits 64 bits: no amount exceeds `AMOUNT_MICRO_MAX`, so that its double, the
difference of two versions, is still less than 2**63. Whatever adds rows up is at least 128 bits wide (hugeint in
DuckDB, numeric in PostgreSQL, Python's own integers), which holds 10**20 rows of the largest amount.
"""

from __future__ import annotations

AMOUNT_MICRO_MAX = 10**18
"""The largest amount of one order, payment, refund or adjustment, in micro-units: a million million major units."""
