"""The error sentence for a sequence that was set back below the numbers in its table.

Belongs here: that sentence. Does not belong here: noticing it (`oltp/store/constraints.py`,
`stack/looking/outages.py`).
"""

from __future__ import annotations


def set_back(table: str, column: str, highest: str | None = None) -> str:
    """Return what is wrong and which statement to run.

    `table` includes its schema. `highest` is the number above which new values must be; by default the table's maximum.
    """
    most = highest or f"(select max({column}) from {table})"
    return (
        f"The sequence of {table}.{column} was set back: it gives numbers that were used before; nothing was written. "
        f"As the owner of the database run: select setval(pg_get_serial_sequence('{table}', '{column}'), {most});"
    )
