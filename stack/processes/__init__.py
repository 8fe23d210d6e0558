"""What starts, finds and stops processes: the supervisor, its programs and what each is told, Dagster's processes.

Belongs here: how a process of ours is run. Does not belong here: what it does (`stack/upkeep/` and each folder's own),
servers (`stack/servers/`).
"""
