"""What starts things: embedded servers, settings, process supervision and the `tieout` command.

Belongs here: the composition root of processes. Does not belong here: what the processes do (each folder has its own).
"""

import os

# The allocators of DuckDB and Arrow keep freed memory for a while, each besides what the other keeps: a comparison then
# takes twice its limit. They are told before they are loaded, here for all entry points; what those start inherits it.
os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "0")
