"""Truth: the transactional core of one pod.

Belongs here: domain rules (`domain/`, pure), tables, SQL and migrations (`store/`), one use case a file
(`commands/`), and the outbox. Does not belong here: anything that reads a copy.
"""
