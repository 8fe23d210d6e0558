"""What starts things: embedded servers, settings, process supervision and the `tieout` command.

Belongs here: the composition root of processes. Does not belong here: what the processes do (each folder has its own).
"""
