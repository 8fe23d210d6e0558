"""The handling of differences: the ledger of breaks, and repairs through the stores' own write paths.

Belongs here: breaks from their opening to their end, plans and their application. Does not belong here: finding
differences (`reconcile/`), the stores themselves (`derived/`, `streams/`, `oltp/`).
"""
