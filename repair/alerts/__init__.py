"""Telling people: which messages are due, what they say, the outbox that keeps them, and sending.

Belongs here: from incidents, expectations and books to messages that were delivered. Does not belong here: when that is
done (`stack/upkeep/alerting.py`, `orchestration/alerts.py`).
"""
