"""Composes what the domain folders need: sessions over running servers, comparisons, builds, repairs, drills.

Belongs here: functions that take settings and return ready objects or results. Does not belong here: showing them
(`cli/`), or deciding when the work is done (`stack/upkeep/`).
"""
