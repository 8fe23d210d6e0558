"""Embedded servers: PostgreSQL and Valkey from their wheels, the account they run as, their roles and databases.

Belongs here: starting, finding again, stopping. Does not belong here: who uses them (`stack/composition/session.py`).
"""
