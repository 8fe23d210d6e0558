"""What starts things, in rooms that import downwards only: upkeep, looking, composition, servers, processes.

Belongs here: the composition root of processes, and beside the rooms what all of them need (settings, files, ports,
secrets in texts). Does not belong here: what the processes do (each folder has its own), the `tieout` command (`cli/`).
"""

import os

# DuckDB's allocator keeps freed memory for a second, which adds as much again to what a comparison may take. It is told
# before DuckDB is loaded, here for all entry points; the processes that they start inherit it.
os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
