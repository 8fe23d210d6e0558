"""The shared words of Tieout: ids, money, time, errors, settings, events, ownership.

Belongs here: values and pure functions that more than one layer must agree on. Does not belong here: anything that
connects, reads a file or the environment, or knows a particular store. Four modules do so, because both the comparison
and what it compares need them: `arrow.py` connects, `memory.py` asks the system, `events/schema_files.py` reads the
committed schemas, `events/upcasting.py` registers a function in DuckDB. A test holds that there are no others.
"""
