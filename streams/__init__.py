"""The way of events out of a pod: cuts and relay, the log, the consumer loop.

Belongs here: how committed events get from an outbox to the projections. Does not belong here: what the events mean.
"""
