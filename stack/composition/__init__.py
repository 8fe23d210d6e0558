"""Putting together what the folders below need: sessions over running servers, comparisons, builds, repairs, drills.

Belongs here: settings in, ready objects and their results out. Does not belong here: showing them (`cli/`), or deciding
when it is done (`stack/upkeep/`).
"""
