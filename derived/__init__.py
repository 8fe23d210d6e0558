"""Copies that are built from the log and can be rebuilt: the lake, the warehouse and the read models.

Belongs here: stores that hold copies, each with `apply` (from the log) and `rebuild` (from the lake) side by side. Does
not belong here: the consumer loop (`streams/consumer.py`), anything that decides about a fact (`oltp/`).
"""
