"""The scratch space of a comparison: a DuckDB file of its own, with a limit of memory and of disk.

What both sides hold is written to that file, so it takes no memory while other things are compared; tables in memory
would be spilled only when nothing else is left, and then cost more than the limit. Belongs here: opening and bounding
it, loading an Arrow stream into it, saying which limit was reached. Does not belong here: comparing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

MEMORY_LIMIT_MB = 256
"""Of DuckDB's own; a process takes 300 to 400 MB besides (`contracts/settings.py`: comparison_memory_mb)."""

DISK_LIMIT_MB = 50_000
"""What is written at most, both sides and what is spilled (`contracts/settings.py`: scratch_disk_mb)."""

WATCH_SECONDS = 0.25
"""How often it is measured what is written: DuckDB itself bounds only what it spills."""

PREFIX = "tieout-compare-"
"""Of the folders of comparisons, followed by the process id."""

CATALOG = "scratch"
"""Name under which the scratch catalog is attached beside whatever the connection already has (the lake)."""


def table(name: str) -> str:
    """Return the qualified name of a scratch table."""
    return f'{CATALOG}.main."{name}"'


@contextmanager
def scratch(
    connection: duckdb.DuckDBPyConnection,
    *,
    memory_limit_mb: int = MEMORY_LIMIT_MB,
    disk_limit_mb: int = DISK_LIMIT_MB,
    folder: Path | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach a scratch catalog in `folder` to `connection`, bounded by `memory_limit_mb` and `disk_limit_mb`."""
    _remove_leftovers(folder)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=folder) as spill:
        connection.execute("set TimeZone = 'UTC'")
        # DuckDB draws it on standard output, where a command's answer belongs.
        connection.execute("set enable_progress_bar = false")
        connection.execute("set preserve_insertion_order = false")
        connection.execute("set memory_limit = $limit", {"limit": f"{memory_limit_mb}MB"})
        connection.execute("set temp_directory = $folder", {"folder": spill})
        connection.execute("set max_temp_directory_size = $limit", {"limit": f"{disk_limit_mb}MB"})
        file = str(Path(spill) / "scratch.duckdb").replace("'", "''")
        connection.execute(f"attach '{file}' as {CATALOG}")
        # It is read once or twice and then gone: to compress it costs more than the comparison.
        connection.execute("set force_compression = 'uncompressed'")
        try:
            with _watched(connection, Path(spill), disk_limit_mb):
                yield connection
        finally:
            connection.execute("use memory")
            connection.execute(f"detach {CATALOG}")


@contextmanager
def _watched(connection: duckdb.DuckDBPyConnection, folder: Path, limit_mb: int) -> Iterator[None]:
    """Interrupt whatever statement runs while the files in `folder` take more than `limit_mb`."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            if _size(folder) > limit_mb * 1_000_000:
                connection.interrupt()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _size(folder: Path) -> int:
    found = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # what was spilled is removed while it is looked at
            found += file.stat().st_size
    return found


def _remove_leftovers(folder: Path | None) -> None:
    """Remove what comparisons left in `folder` that were killed: it may be as large as what they compared."""
    for left in (folder or Path(tempfile.gettempdir())).glob(f"{PREFIX}*-*"):
        process_id = left.name.removeprefix(PREFIX).partition("-")[0]
        if process_id.isdigit() and not _is_alive(int(process_id)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def load(connection: duckdb.DuckDBPyConnection, name: str, reader: pa.RecordBatchReader, select: str = "*") -> None:
    """Create the scratch table `name` from an Arrow stream; `select` is a list of expressions over its columns."""
    connection.register("incoming", reader)
    try:
        connection.execute(f"create or replace table {table(name)} as select {select} from incoming")
    finally:
        connection.unregister("incoming")


@contextmanager
def single_threaded(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let statements use one thread: half of what two hold at the same time."""
    ((threads,),) = connection.execute("select current_setting('threads')").fetchall()
    connection.execute("set threads = 1")
    try:
        yield
    finally:
        connection.execute(f"set threads = {int(threads)}")


def limit_reached(error: Exception) -> str:
    """Return a sentence that says which limit stopped a statement, and which setting it is; empty for other errors."""
    text = str(error)
    if "No space left on device" in text:
        return "The disk of the scratch folder (TIEOUT_VAR_DIR) is full: make room there, then compare again. "
    is_spilled = "max_temp_directory_size" in text and isinstance(error, duckdb.OutOfMemoryException)
    # Nothing else interrupts a statement of a comparison.
    if is_spilled or isinstance(error, duckdb.InterruptException):
        return "It needs more scratch space on disk than TIEOUT_SCRATCH_DISK_MB allows. "
    if isinstance(error, duckdb.OutOfMemoryException):
        return "It needs more memory than TIEOUT_COMPARISON_MEMORY_MB allows. "
    return ""
