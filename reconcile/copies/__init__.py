"""What each read model must hold: one module per read model, with its name.

Belongs here: these modules, and finding them by the contract's names. Does not belong here: how they are compared
(`reconcile/read_model_pairs.py`).
"""

from __future__ import annotations

from importlib import import_module

from contracts.ownership import READ_MODELS
from reconcile.view_tables import View

VIEWS: tuple[View, ...] = tuple(import_module(f"reconcile.copies.{copy.name}").VIEW for copy in READ_MODELS)
