"""The scratch space of a comparison: a DuckDB file of its own, with limits of memory and disk.

The rows of both sides are in that file, so they take no memory while other rows are compared. DuckDB would spill
in-memory tables only as a last resort, and then exceed the limit. Belongs here: opening the file and its limits,
loading an Arrow stream into it, naming the limit that was reached. Does not belong here: comparing.
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
"""DuckDB's memory limit; the process takes 300 to 400 MB besides (`contracts/settings.py`: comparison_memory_mb)."""

DISK_LIMIT_MB = 50_000
"""The largest size of the rows of both sides and of spilled data (`contracts/settings.py`: scratch_disk_mb)."""

WATCH_SECONDS = 0.25
"""How often we measure the size of the files, because DuckDB itself limits only what it spills."""

PREFIX = "tieout-compare-"
"""Name prefix of the folders of comparisons; the process id follows."""

CATALOG = "scratch"
"""Name under which the scratch catalog is attached, beside the lake."""


def table(name: str) -> str:
    """Return the qualified name of a scratch table."""
    return f'{CATALOG}.main."{name}"'


def has_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Return whether there is a scratch table of this name."""
    # The catalog's functions would list the lake's tables as well, which takes a hundred times as long.
    try:
        connection.execute(f"from {table(name)} limit 0")
    except duckdb.CatalogException:
        return False
    return True


@contextmanager
def scratch(
    connection: duckdb.DuckDBPyConnection,
    *,
    memory_limit_mb: int = MEMORY_LIMIT_MB,
    disk_limit_mb: int = DISK_LIMIT_MB,
    folder: Path | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach a scratch catalog in `folder` to `connection`, with limits of memory and disk; detach it on exit."""
    _remove_leftovers(folder)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=folder) as spill:
        connection.execute("set TimeZone = 'UTC'")
        # DuckDB would print the progress bar on standard output, which is for a command's answer.
        connection.execute("set enable_progress_bar = false")
        connection.execute("set preserve_insertion_order = false")
        connection.execute("set memory_limit = $limit", {"limit": f"{memory_limit_mb}MB"})
        connection.execute("set temp_directory = $folder", {"folder": spill})
        connection.execute("set max_temp_directory_size = $limit", {"limit": f"{disk_limit_mb}MB"})
        file = str(Path(spill) / "scratch.duckdb").replace("'", "''")
        connection.execute(f"attach '{file}' as {CATALOG}")
        # The file is read once or twice and then deleted; compressing it takes longer than the comparison.
        connection.execute("set force_compression = 'uncompressed'")
        # For the same reason it is not written out once more when it is detached.
        connection.execute("pragma disable_checkpoint_on_shutdown")
        try:
            with _watched(connection, Path(spill), disk_limit_mb):
                yield connection
        finally:
            connection.execute("use memory")
            connection.execute(f"detach {CATALOG}")


@contextmanager
def _watched(connection: duckdb.DuckDBPyConnection, folder: Path, limit_mb: int) -> Iterator[None]:
    """Interrupt the running statement while the files in `folder` take more than `limit_mb`."""
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
        with suppress(OSError):  # DuckDB may delete a spill file meanwhile
            found += file.stat().st_size
    return found


def _remove_leftovers(folder: Path | None) -> None:
    """Delete the folders of killed comparisons in `folder`, because they may be as large as the compared rows."""
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
    """Let statements use only one thread, which needs about half of the memory of two."""
    ((threads,),) = connection.execute("select current_setting('threads')").fetchall()
    connection.execute("set threads = 1")
    try:
        yield
    finally:
        connection.execute(f"set threads = {int(threads)}")


def limit_reached(error: Exception) -> str:
    """Return a sentence with the limit that stopped a statement, and its setting; empty for other errors."""
    text = str(error)
    if "No space left on device" in text:
        return "The disk of the scratch folder (TIEOUT_VAR_DIR) is full: make room there, then compare again. "
    is_spilled = "max_temp_directory_size" in text and isinstance(error, duckdb.OutOfMemoryException)
    # Only `_watched` interrupts a statement of a comparison.
    if is_spilled or isinstance(error, duckdb.InterruptException):
        return "It needs more scratch space on disk than TIEOUT_SCRATCH_DISK_MB allows. "
    if isinstance(error, duckdb.OutOfMemoryException):
        return "It needs more memory than TIEOUT_COMPARISON_MEMORY_MB allows. "
    return ""
