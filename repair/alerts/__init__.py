"""Alerting people: which messages are due, their texts, the table that keeps them, and sending.

Belongs here: the way from incidents, expectations and figures to delivered messages. Does not belong here: when that
runs (`stack/upkeep/alerting.py`, `orchestration/alerts.py`).
"""
