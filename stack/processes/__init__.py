"""Starting, finding and stopping processes: the supervisor, its programs with their settings, Dagster's processes.

Belongs here: how a process of ours is run. Does not belong here: what it does (`stack/upkeep/` and the domain folders),
servers (`stack/servers/`).
"""
