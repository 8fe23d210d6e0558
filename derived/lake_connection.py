"""How a process connects to the lake: a DuckDB connection with DuckLake attached as `lake`.

Belongs here: extensions, attaching, transactions, errors without secrets. Does not belong here: what is in the lake
(`derived/lake_schema.py`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import duckdb
import psutil
import psycopg

from contracts.announcements import LAKE_WRITER
from contracts.errors import StackError
from contracts.events.upcasting import register
from contracts.object_store import ObjectStore, is_object_path
from contracts.settings import LAKE_MEMORY_MB, LAKE_THREADS, Settings
from derived.dsn import described, scrub
from derived.lake_files import Place, kept_files, names_before, put_back_files

__all__ = ["LAKE", "connect_lake", "described", "normal_data_path", "open_lake", "quote", "scrub", "transaction"]

LAKE = "lake"
"""The catalog's name in every connection, and in dbt."""

PLACE = "memory.main.lake_place"
"""Macro that returns where the attached lake is; only a connection that writes to a folder has it."""

CONFIGURATION: dict[str, str | bool | int | float | list[str]] = {
    # Extensions are files of installed packages with hashes pinned by the lock file: nothing is downloaded at run time.
    # Checking their signatures for each connection would cost 0.4 s of CPU.
    "allow_unsigned_extensions": "true",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
OBJECTS = "httpfs"
EXTENSIONS = ("ducklake", "postgres_scanner", OBJECTS)
"""DuckDB's extensions, installed as wheels; the one for object stores is loaded only if one is used."""

LARGEST_OBJECT = "50GB"
"""DuckDB holds a ten-thousandth of this size in memory for each object that it writes, and it writes many at once."""

SPILL_PREFIX = "tieout-lake-"
"""Prefix of the folders that DuckDB spills to; the process id follows."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits of a connection to the lake, and which objects it may access."""

    memory_limit_mb: int = LAKE_MEMORY_MB
    threads: int = LAKE_THREADS
    spill_folder: Path | None = None
    """Where DuckDB writes what does not fit in memory, including event data. None: the system's temporary folder."""
    store: ObjectStore | None = None
    """The object store of the lake or its backup, if there is one."""
    prefixes: tuple[str, ...] = ()
    """``s3://`` prefixes below which objects of `store` may be read and written."""


DEFAULT_BOUNDS = Bounds()


def bounds_of(settings: Settings) -> Bounds:
    """Return the limits of every connection to the lake of these settings, except those of comparisons."""
    return Bounds(
        memory_limit_mb=settings.lake_memory_mb,
        threads=settings.lake_threads,
        spill_folder=settings.scratch_dir,
        store=settings.object_store,
        prefixes=object_prefixes(settings),
    )


def object_prefixes(settings: Settings) -> tuple[str, ...]:
    """Return the prefixes of lake and backup that are on an object store, each with a slash at its end."""
    paths = (settings.lake_data_path, str(settings.lake_backup_path))
    return tuple(normal_data_path(path) for path in paths if is_object_path(path))


def connect_lake(
    catalog_dsn: str,
    data_path: str,
    read_only: bool = False,
    *,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> duckdb.DuckDBPyConnection:
    """Return a new DuckDB instance with the lake attached; use one per process and purpose, a `cursor()` per thread.

    `data_path` is a folder or an object-store prefix (``s3://bucket/prefix``). Raises StackError, which says what
    cannot be reached and never contains the DSN.
    """
    connection = duckdb.connect(config=CONFIGURATION)
    try:
        _load_extensions(connection, data_path)
        _let_reach(connection, bounds)
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"set memory_limit = '{int(bounds.memory_limit_mb)}MB'")
        if not is_object_path(data_path):
            # The operating system already caches local files; DuckDB's cache would fill the whole memory limit.
            connection.execute("set enable_external_file_cache = false")
        connection.execute(f"set temp_directory = {quote(str(_spill_folder(bounds)))}")
        connection.execute(f"set threads = {int(bounds.threads)}")
        # Every ordered result uses ORDER BY. Without insertion order DuckDB can stream instead of buffering.
        connection.execute("set preserve_insertion_order = false")
        options = f"data_path {quote(normal_data_path(data_path))}" + (", read_only" if read_only else "")
        register(connection)
        connection.execute(f"attach {quote('ducklake:postgres:' + catalog_dsn)} as {LAKE} ({options})")
        _put_back_files(connection, catalog_dsn, data_path, is_writing=not read_only)
    except (duckdb.Error, psycopg.Error, OSError) as error:
        connection.close()
        # `from None`: DuckDB's own message contains the whole DSN.
        raise StackError(
            f"The lake ({described(catalog_dsn)}, files in {data_path}) could not be opened: "
            f"{scrub(error, catalog_dsn)}"
        ) from None
    return connection


def open_beside(bounds: Bounds = DEFAULT_BOUNDS) -> duckdb.DuckDBPyConnection:
    """Return a new DuckDB instance without the lake, for reading files of its backup, with the same limits."""
    connection = duckdb.connect(config=CONFIGURATION)
    _let_reach(connection, bounds)
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"set memory_limit = '{int(bounds.memory_limit_mb)}MB'")
    connection.execute(f"set temp_directory = {quote(str(_spill_folder(bounds)))}")
    return connection


def open_parser() -> duckdb.DuckDBPyConnection:
    """Return a new DuckDB instance that only parses SQL: it has no access to files or network, and locked settings."""
    connection = duckdb.connect(config=CONFIGURATION)
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def open_lake(settings: Settings, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Call `connect_lake` for the lake of these settings and with their limits."""
    return connect_lake(
        settings.catalog_dsn,
        settings.lake_data_path,
        read_only=read_only,
        bounds=bounds_of(settings),
    )


def _spill_folder(bounds: Bounds) -> Path:
    """Return the name of a folder that DuckDB creates when it spills, and removes when it closes.

    Each connection needs its own folder, because DuckDB's file names would be the same. Folders of processes that were
    killed are removed here.
    """
    parent = bounds.spill_folder or Path(tempfile.gettempdir())
    if bounds.spill_folder is not None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in parent.glob(f"{SPILL_PREFIX}*-*"):
        process_id = left.name.removeprefix(SPILL_PREFIX).partition("-")[0]
        if process_id.isdigit() and not psutil.pid_exists(int(process_id)):
            shutil.rmtree(left, ignore_errors=True)
    return parent / f"{SPILL_PREFIX}{os.getpid()}-{uuid4().hex}"


def lake_place(settings: Settings) -> Place:
    """Return where the lake of these settings is."""
    data_path = normal_data_path(settings.lake_data_path)
    return Place(catalog_dsn=settings.catalog_dsn, data_path=data_path, store=settings.object_store)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection, by: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """Commit the block's changes, or roll them back if it raises; the commit may raise duckdb.TransactionException.

    `by` names the writer in the snapshot, so that the lake's witness knows it; a transaction that only reads has none.

    If only the reply to the commit is lost, no file of the transaction is lost (`derived/lake_files.py`).

    Never close a connection to the lake while a transaction is open. DuckDB would then roll back in a destructor. If
    the catalog's server is gone, that rollback throws, and a C++ program whose destructor throws is aborted (SIGABRT).
    """
    place = _place(connection)
    before = names_before(place) if place else {}
    connection.execute("begin")
    try:
        if by:
            connection.execute(f"call {LAKE}.set_commit_message({quote(LAKE_WRITER)}, {quote(by)})")
        yield connection
        with kept_files(place, before) if place else nullcontext():
            connection.execute("commit")
    except BaseException:
        # After a failed commit or a failed rollback the transaction has already ended.
        with suppress(duckdb.Error):
            connection.execute("rollback")
        raise


def _put_back_files(
    connection: duckdb.DuckDBPyConnection, catalog_dsn: str, data_path: str, *, is_writing: bool
) -> None:
    """Put back files after a lost commit reply, and tell transactions of a writing connection where the lake is."""
    if is_object_path(data_path):
        return
    place = Place(catalog_dsn=catalog_dsn, data_path=normal_data_path(data_path))
    put_back_files(place)
    if is_writing:
        # Use a macro: all cursors of the connection see it, but a variable is only seen by the cursor that set it.
        values = f"[{quote(place.catalog_dsn)}, {quote(place.data_path)}]"
        connection.execute(f"create macro {PLACE}() as {values}")


def _place(connection: duckdb.DuckDBPyConnection) -> Place | None:
    try:
        ((values,),) = connection.execute(f"select {PLACE}()").fetchall()
    except duckdb.CatalogException:
        return None
    return Place(catalog_dsn=values[0], data_path=values[1])


def normal_data_path(data_path: str) -> str:
    """Return the path as DuckLake stores it: a folder's path is absolute, and a slash is at the end."""
    path = data_path if is_object_path(data_path) else str(Path(data_path).absolute())
    return path.rstrip("/") + "/"


def quote(text: str) -> str:
    """Return `text` as an SQL string literal, for statements that do not take parameters (ATTACH, SET, CALL)."""
    return "'" + text.replace("'", "''") + "'"


def link_extensions(folder: Path) -> Path:
    """Fill `folder` as a DuckDB `extension_directory` with the extensions from the wheels, and return it.

    For DuckDB instances that others open (dbt): they load extensions from there, and nothing from a home folder.
    """
    with duckdb.connect() as connection:
        (platform,) = connection.execute("pragma platform").fetchall()[0]
    place = folder / f"v{duckdb.__version__}" / str(platform)
    place.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        file = extension_file(name)
        link = place / file.name
        if not link.is_symlink() or link.readlink() != file:
            # Several processes may do this at once: rename the new link into place, so that it always exists.
            draft = place / f"{file.name}.{os.getpid()}"
            draft.unlink(missing_ok=True)
            draft.symlink_to(file)
            draft.replace(link)
    return folder


def _load_extensions(connection: duckdb.DuckDBPyConnection, data_path: str) -> None:
    for name in EXTENSIONS:
        if name != OBJECTS or is_object_path(data_path):
            connection.execute(f"load {quote(str(extension_file(name)))}")


def _let_reach(connection: duckdb.DuckDBPyConnection, bounds: Bounds) -> None:
    """Allow a connection to use the object store below its prefixes; the key is only in the connection's memory."""
    if bounds.store is None:
        return
    connection.execute(f"load {quote(str(extension_file(OBJECTS)))}")
    connection.execute(f"set s3_uploader_max_filesize = {quote(LARGEST_OBJECT)}")
    for statement in bounds.store.secret_statements(bounds.prefixes):
        connection.execute(statement)


def extension_file(name: str) -> Path:
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    if package is None or package.origin is None:
        wheel = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        raise StackError(f"The lake needs the Python package {wheel}; install it beside duckdb.")
    return Path(package.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
