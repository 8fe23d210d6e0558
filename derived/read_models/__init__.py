"""Read models: what pages are served from, in a PostgreSQL database of their own.

Belongs here: the account view and the fulfillment view, their tables and positions. Does not belong here: the loop that
feeds them (`streams/consumer.py`), the pages that ask them.
"""

from derived.read_models.migrate import migrate

__all__ = ["migrate"]
