"""Truth: the transactional core of one pod.

Belongs here: domain rules (`domain/`, pure), tables, SQL and migrations (`store/`), one file per use case
(`commands/`), and the outbox. Does not belong here: anything that reads a copy.
"""
