"""Reads of a pod for whoever shows what is true now: no locks, no writes, one snapshot per question.

Belongs here: questions about present facts, each for one merchant. Does not belong here: commands (`oltp/commands/`),
what a copy answers (`derived/`).
"""
