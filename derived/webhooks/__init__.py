"""Telling merchants of their events: noting what must be told, telling it, telling it again, saying how far it is.

Belongs here: everything between the log and a merchant's endpoint. Does not belong here: registering endpoints
(`api/webhooks/`), comparing what was noted with the lake (`reconcile/copies/webhooks.py`).
"""
