"""What is done about differences: the ledger of breaks, and repairs through the stores' own write paths.

Belongs here: breaks from found to ended, plans and their application. Does not belong here: finding differences
(`reconcile/`), the stores themselves (`derived/`, `streams/`, `oltp/`).
"""
