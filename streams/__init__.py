"""Out of the pod: cuts and relay, the log, the consumer loop.

Belongs here: how committed events get from an outbox to whoever applies them. Does not belong here: what they mean.
"""
