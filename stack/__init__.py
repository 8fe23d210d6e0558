"""Starting and operating the system, in layers that import downwards only: upkeep, looking, composition, servers,
processes.

Belongs here: the composition root of processes, and modules that all layers need (settings, files, ports, secrets in
texts). Does not belong here: what the processes do (each folder has its own), the `tieout` command (`cli/`).
"""

import os

# By default DuckDB's allocator keeps freed memory for a second, so a comparison can take twice its memory limit. The
# variable must be set before DuckDB is loaded. We set it here for all entry points; their child processes inherit it.
os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
