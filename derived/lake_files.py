"""The lake's files during a commit: no file that the catalog names afterwards may be lost.

DuckLake deletes the files of a transaction when its COMMIT fails. If only the reply to COMMIT is lost (the catalog's
server was killed, a connection broke), the catalog may have committed, and would name files that are gone. Therefore
every new file has a second name (a hard link below UNCONFIRMED) during the commit. The next process that opens the lake
puts back the files that the catalog names and that do not exist.

Belongs here: second names, putting files back, finding lost files. Does not belong here: transactions
(`derived/lake_connection.py`), merging files (`derived/lake_compaction.py`). Second names are for folders only. An
object store keeps deleted objects as versions, and an operator restores them by hand (docs/how-to/object-store.md).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import duckdb
import psycopg
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from contracts.errors import PropagationError, StackError
from contracts.ids import uuid7
from contracts.object_store import ObjectFolder, ObjectStore, is_object_path
from derived.objects import names_below

UNCONFIRMED = ".unconfirmed"
"""Folder of second names inside the data path: one subfolder per commit, with one entry per file."""

KEEP_SECONDS = 3600
"""How long second names stay after a failed commit: the server may still commit after its client is gone."""

FRESH_SECONDS = 5
"""How old a listing of the folders may be when a transaction begins; an old one only causes some unneeded links."""

GRAIN_NS = 1_000_000_000
"""A folder that changed within this time before its listing may change again with the same time stamp."""

CONNECT_TIMEOUT_SECONDS = 5

NOT_BUILT = ("raw", "builds")
"""Schemas whose content cannot be computed again."""

SUFFIX = ".parquet"

Names = Mapping[str, frozenset[str]]
"""Folder -> the names in it."""

NAMED = """
    select path from (select path from ducklake_data_file union all select path from ducklake_delete_file) as files
    where substring(path from '[^/]*$') = any(%s)
"""
BUILT = """
    select schemas.schema_name, tables.table_name, schemas.path, tables.path, files.path
    from (select table_id, path, end_snapshot from ducklake_data_file
          union all select table_id, path, end_snapshot from ducklake_delete_file) as files
    join ducklake_table as tables on tables.table_id = files.table_id and tables.end_snapshot is null
    join ducklake_schema as schemas on schemas.schema_id = tables.schema_id and schemas.end_snapshot is null
    where files.end_snapshot is null and schemas.schema_name <> all(%s)
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Location of a lake: its catalog, and the folder of its files."""

    catalog_dsn: str = field(repr=False)
    data_path: str
    store: ObjectStore | None = None
    """The object store, if the data path is a prefix of one."""


@dataclass(frozen=True, kw_only=True)
class _Listing:
    changed_ns: int | None
    """The folder's modification time; None: too recent to tell whether files came later."""
    folders: tuple[str, ...]
    """Subfolders, including deleted ones."""
    names: frozenset[str]


class _Folders:
    """The Parquet files below a folder; only folders that changed are listed again."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._listings: dict[str, _Listing] = {}
        self._looked_at: float | None = None
        self._lock = threading.Lock()

    def names(self, *, fresh_seconds: float = 0) -> Names:
        with self._lock:
            if self._looked_at is None or time.monotonic() - self._looked_at >= fresh_seconds:
                self._listings = dict(self._look())
                self._looked_at = time.monotonic()
            return {folder: listing.names for folder, listing in self._listings.items()}

    def _look(self) -> Iterator[tuple[str, _Listing]]:
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            with suppress(FileNotFoundError):
                listing = self._listing(folder)
                waiting += listing.folders
                yield folder, listing

    def _listing(self, folder: str) -> _Listing:
        changed_ns, now_ns = os.stat(folder).st_mtime_ns, time.time_ns()
        known = self._listings.get(folder)
        if known is not None and known.changed_ns == changed_ns:
            return known
        names = frozenset(os.listdir(folder))
        # A fence's folder has tens of thousands of files after a busy hour, so only look at the new names.
        came = names if known is None else names - known.names
        paths = [os.path.join(folder, name) for name in came if not name.endswith(SUFFIX) and name != UNCONFIRMED]
        return _Listing(
            changed_ns=changed_ns if abs(now_ns - changed_ns) > GRAIN_NS else None,
            folders=tuple(dict.fromkeys([*(known.folders if known else ()), *filter(os.path.isdir, paths)])),
            names=names,
        )


_known: dict[str, _Folders] = {}
"""Listings of this process, by data path."""


def names_before(place: Place) -> Names:
    """Return the files that exist when a transaction begins."""
    return _folders(place).names(fresh_seconds=FRESH_SECONDS)


@contextmanager
def kept_files(place: Place, before: Names) -> Iterator[None]:
    """Keep second names of the files that are not in `before` while the block commits them.

    If the block raises, the catalog may have committed: the files that it names are put back, now or by the next
    process that opens the lake. Raises PropagationError, before the commit, if second names cannot be made.
    """
    folder = Path(place.data_path, UNCONFIRMED, str(uuid7()))
    try:
        _give_second_names(place, folder, before)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PropagationError(
            f"The lake's new files could not be kept while they are committed, so nothing was committed: {error}"
        ) from None
    try:
        yield
    except Exception as error:
        if is_conflict(error):
            # The server replied that it did not commit, so the second names are not needed.
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with suppress(psycopg.Error, OSError):
                put_back_files(place)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def is_conflict(error: Exception) -> bool:
    """Return whether a commit failed because another one came first; then it has certainly not happened.

    DuckLake retries a commit itself if the changes are compatible, and gives up after some retries.
    """
    return "conflict" in str(error) or "maximum retry count" in str(error)


def conflicts_retried(attempts: int, *, pause_seconds: float = 0.0) -> Retrying:
    """Return what runs a transaction again while others commit first; after the last attempt it raises the conflict."""
    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, duckdb.TransactionException) and is_conflict(error)),
        stop=stop_after_attempt(attempts),
        wait=wait_fixed(pause_seconds),
        reraise=True,
    )


def put_back_files(place: Place) -> list[str]:
    """Put back files that the catalog names and that do not exist, from their second names; return the files.

    Also removes second names that are no longer needed. Raises psycopg.Error if the catalog cannot be queried.
    """
    commits = _unconfirmed(place)
    gone = [name for commit in commits for name in _entries(commit) if not _original(place, name).exists()]
    named = _named(place, [_original(place, name).name for name in gone]) if gone else set()
    returned: list[str] = []
    for commit in commits:
        for entry in _entries(commit):
            original = _original(place, entry)
            if original.name in named and not original.exists():
                _give_name(commit / entry, original)
                returned.append(unquote(entry))
        with suppress(FileNotFoundError):
            if time.time() - commit.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(commit, ignore_errors=True)
    return returned


def lost_tables(place: Place) -> list[str]:
    """Return the warehouse's tables (``schema.table``) of which a file is lost."""
    with _catalog(place) as connection:
        rows = connection.execute(BUILT, (list(NOT_BUILT),)).fetchall()
    if is_object_path(place.data_path):
        present = _objects(place, {row[2] for row in rows})
        lost = [row for row in rows if _address(place, *row[2:]) not in present]
    else:
        # An absolute path in the catalog replaces the parts before it.
        lost = [row for row in rows if not Path(place.data_path, *row[2:]).exists()]
    return sorted({f"{row[0]}.{row[1]}" for row in lost})


def _objects(place: Place, schemas: Iterable[str]) -> frozenset[str]:
    """Return the addresses of the objects of these schemas only: the other schemas have many objects."""
    if place.store is None:
        raise StackError(f"{place.data_path} cannot be looked at: its object store is not set.")
    folders = [ObjectFolder(address=_address(place, schema).rstrip("/"), store=place.store) for schema in schemas]
    return frozenset(f"{folder}/{name}" for folder in folders for name in names_below(folder))


def _address(place: Place, *parts: str) -> str:
    """Return the address of an object; a part that is a full address replaces the parts before it."""
    address = place.data_path.rstrip("/")
    for part in parts:
        address = part if is_object_path(part) else f"{address.rstrip('/')}/{part}"
    return address


def _folders(place: Place) -> _Folders:
    return _known.setdefault(place.data_path, _Folders(place.data_path))


def _give_second_names(place: Place, folder: Path, before: Names) -> None:
    for where, names in _folders(place).names().items():
        for name in names - before.get(where, frozenset()):
            if not name.endswith(SUFFIX):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            relative = os.path.relpath(os.path.join(where, name), place.data_path)
            # Another process's file may have been deleted since the listing.
            with suppress(FileNotFoundError):
                _give_name(Path(where, name), folder / quote(relative, safe=""))


def _give_name(file: Path, name: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, name)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:
        # The file system has no hard links, so make a copy.
        draft = name.with_name(f"{name.name}.{os.getpid()}")
        shutil.copyfile(file, draft)
        draft.replace(name)


def _unconfirmed(place: Place) -> list[Path]:
    folder = Path(place.data_path, UNCONFIRMED)
    with suppress(FileNotFoundError):
        return sorted(folder.iterdir())
    return []


def _entries(commit: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(os.listdir(commit))
    return []


def _original(place: Place, entry: str) -> Path:
    return Path(place.data_path, unquote(entry))


def _named(place: Place, names: Collection[str]) -> set[str]:
    with _catalog(place) as connection:
        return {Path(path).name for (path,) in connection.execute(NAMED, (sorted(set(names)),)).fetchall()}


def _catalog(place: Place) -> psycopg.Connection[tuple[str, ...]]:
    return psycopg.connect(place.catalog_dsn, connect_timeout=CONNECT_TIMEOUT_SECONDS)
