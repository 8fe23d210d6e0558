"""Embedded servers: PostgreSQL and Valkey from their wheels, the account they run as, their roles and databases.

Belongs here: starting them, finding them when they run, stopping them. Does not belong here: which processes use them
(`stack/composition/session.py`).
"""
