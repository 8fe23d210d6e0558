"""The lake's files while a transaction is committed: none may be lost that the catalog names afterwards.

DuckLake deletes what a transaction has written when its COMMIT fails. When only the reply to COMMIT is lost (the
catalog's server was killed, a connection broke), the catalog may have committed all the same, and would name files that
are gone. So every new file has a second name (a hard link below UNCONFIRMED) while it is committed; whoever opens the
lake next puts back what the catalog names and does not find.

Belongs here: second names, putting back, what is lost. Does not belong here: transactions
(`derived/lake_connection.py`). Second names are for folders only; an object store keeps deleted objects itself, by its
versions, and somebody puts them back by hand (docs/how-to/object-store.md).
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

import psycopg

from contracts.errors import PropagationError, StackError
from contracts.ids import uuid7
from contracts.object_store import ObjectFolder, ObjectStore, is_object_path
from derived.objects import names_below

UNCONFIRMED = ".unconfirmed"
"""The folder of second names in the data path: one folder per commit, in it one entry per file."""

KEEP_SECONDS = 3600
"""How long second names stay after a commit that failed: a server that lost its client may still be committing."""

FRESH_SECONDS = 5
"""How old a look at the folders may be when a transaction begins: it only costs a few links more."""

GRAIN_NS = 1_000_000_000
"""A folder that changed within this time of a look may change again without another time stamp."""

CONNECT_TIMEOUT_SECONDS = 5

NOT_BUILT = ("raw", "builds")
"""Schemas that hold what cannot be computed again."""

SUFFIX = ".parquet"

Names = Mapping[str, frozenset[str]]
"""What is there, by folder."""

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
    """Where a lake is: its catalog, and the folder of its files."""

    catalog_dsn: str = field(repr=False)
    data_path: str
    store: ObjectStore | None = None
    """Of a data path that is a prefix of an object store."""


@dataclass(frozen=True, kw_only=True)
class _Listing:
    changed_ns: int | None
    """The folder's time stamp; None: it is too young to tell whether anything came since."""
    folders: tuple[str, ...]
    """Also those that are gone by now."""
    names: frozenset[str]


class _Folders:
    """The Parquet files below a folder; only folders that changed are read again."""

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
        # A fence has tens of thousands of files after a busy hour: only what came is looked at, name by name.
        came = names if known is None else names - known.names
        paths = [os.path.join(folder, name) for name in came if not name.endswith(SUFFIX) and name != UNCONFIRMED]
        return _Listing(
            changed_ns=changed_ns if abs(now_ns - changed_ns) > GRAIN_NS else None,
            folders=tuple(dict.fromkeys([*(known.folders if known else ()), *filter(os.path.isdir, paths)])),
            names=names,
        )


_known: dict[str, _Folders] = {}
"""What this process has seen, by data path."""


def names_before(place: Place) -> Names:
    """Return the files that are there when a transaction begins."""
    return _folders(place).names(fresh_seconds=FRESH_SECONDS)


@contextmanager
def kept_files(place: Place, before: Names) -> Iterator[None]:
    """Keep the files that came since `before` while the block commits them; PropagationError when that cannot be.

    A block that raises may have committed: what the catalog names is put back, now or by whoever opens the lake next.
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
            # The server has answered that there is no such commit.
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with suppress(psycopg.Error, OSError):
                put_back_files(place)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def is_conflict(error: Exception) -> bool:
    """Return whether a commit failed because others committed before it, so that there is no such commit.

    DuckLake tries again by itself where the changes go together, and gives up after some tries.
    """
    return "conflict" in str(error) or "maximum retry count" in str(error)


def put_back_files(place: Place) -> list[str]:
    """Put back the files that the catalog names and that are gone, as far as they have a second name; return them.

    Second names that are no longer needed are removed. psycopg.Error when the catalog cannot be asked.
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
    """Return the tables that the warehouse has built and of which a file is gone, as ``schema.table``."""
    with _catalog(place) as connection:
        rows = connection.execute(BUILT, (list(NOT_BUILT),)).fetchall()
    if is_object_path(place.data_path):
        present = _objects(place, {row[2] for row in rows})
        lost = [row for row in rows if _address(place, *row[2:]) not in present]
    else:
        # A path that is not relative to the one before is absolute, and stands for itself.
        lost = [row for row in rows if not Path(place.data_path, *row[2:]).exists()]
    return sorted({f"{row[0]}.{row[1]}" for row in lost})


def _objects(place: Place, schemas: Iterable[str]) -> frozenset[str]:
    """Return the addresses of the objects of these schemas: of all others there are many, and nobody asks."""
    if place.store is None:
        raise StackError(f"{place.data_path} cannot be looked at: its object store is not set.")
    folders = [ObjectFolder(address=_address(place, schema).rstrip("/"), store=place.store) for schema in schemas]
    return frozenset(f"{folder}/{name}" for folder in folders for name in names_below(folder))


def _address(place: Place, *parts: str) -> str:
    """Return where an object is; a part that is an address already stands for itself."""
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
            # Another writer's file may be gone again.
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
        # A file system without hard links.
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
