"""The shared words of Tieout: ids, money, time, errors, settings, events, ownership.

Belongs here: values and pure functions that more than one layer must agree on. Does not belong here: anything that
connects, reads a file or the environment, or knows a particular store.
"""
