"""The drills: breaking each copy on purpose and checking that the contract still holds.

Belongs here: drills on all stores. Does not belong here: starting servers and workers (`stack/` passes in a `System`).
"""
