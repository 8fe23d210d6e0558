"""The shared words of Tieout: ids, money, time, errors, settings, events, ownership.

Belongs here: values and pure functions that more than one layer must agree on. Does not belong here: anything that
connects, reads a file or the environment, or knows a particular store. Five modules do so, because layers that know
nothing of each other need them: `arrow.py` connects, `memory.py` asks the system, `events/schema_files.py` reads the
committed schemas, `events/upcasting.py` registers a function in DuckDB, `valkey.py` sorts the errors of a client and
asks a server that was handed in. A test holds that there are no others.
"""
