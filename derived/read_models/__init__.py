"""Read models: the copies from which pages are served, in a PostgreSQL database of their own.

Belongs here: what all read models share (rows guarded by version, positions, parking, rebuilding), and one module for
each of them, named after it. Does not belong here: the loop that feeds them (`streams/consumer.py`), the pages that
query them.
"""

from derived.read_models.migrate import migrate

__all__ = ["migrate"]
