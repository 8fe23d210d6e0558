"""Small files in a folder or below an object store's prefix: read, replaced atomically, listed.

Belongs here: file operations of the lake's backup and similar files, the same for both kinds of place. Does not belong
here: rows, which DuckDB itself reads and writes (`derived/lake_connection.py` allows it).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import StackError
from contracts.object_store import SCHEME, ObjectFolder, ObjectStore
from contracts.text import one_line

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

Folder = Path | ObjectFolder

CONNECT_SECONDS, REQUEST_SECONDS = 5, 30

REFUSALS = (
    ("ACCESS_DENIED|SIGNATURE_DOES_NOT_MATCH|INVALID_ACCESS_KEY|HTTP (status )?40[13]", "does not let this key in"),
    ("NO_SUCH_BUCKET|not found|HTTP (status )?404", "has no such bucket"),
    ("PermanentRedirect|MOVED|HTTP (status )?30[17]", "has that bucket in another region: set TIEOUT_S3_REGION"),
)
"""(pattern in a client's message, its meaning)."""


def read_file(path: Folder) -> bytes | None:
    """Return a file's content; None if there is no file. StackError if the object store does not answer."""
    if isinstance(path, Path):
        return path.read_bytes() if path.exists() else None
    with _asking(path) as client:
        if not _is_file(client, path):
            return None
        with client.open_input_stream(path.key) as stream:
            data: bytes = stream.read()
            return data


def replace_file(path: Folder, data: bytes) -> None:
    """Replace a file atomically; the new content survives a power cut.

    Raises StackError if the object store does not answer, or does not return what was written.
    """
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        unfinished.write_bytes(data)
        flush(unfinished)
        unfinished.replace(path)
        flush(path.parent)
        return
    with _asking(path) as client, client.open_output_stream(path.key) as stream:
        stream.write(data)
    if read_file(path) != data:
        raise StackError(f"{path} does not hold what was written to it: its object store changes what it is given.")


def names_below(folder: Folder) -> frozenset[str]:
    """Return the names of all files below a folder, relative to it."""
    if isinstance(folder, Path):
        return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    from pyarrow.fs import FileSelector, FileType

    with _asking(folder) as client:
        found = client.get_file_info(FileSelector(folder.key, recursive=True, allow_not_found=True))
    return frozenset(one.path.removeprefix(f"{folder.key}/") for one in found if one.type == FileType.File)


def flush(path: Path) -> None:
    """Write a file's content, or a folder's names, to disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_reachable(store: ObjectStore, prefix: str) -> None:
    """Raise StackError, with one sentence, if the bucket of a prefix does not exist or the key has no access."""
    folder = ObjectFolder(address=prefix.rstrip("/"), store=store)
    if not names_below(folder):
        _check_bucket(folder)


def _check_bucket(folder: ObjectFolder) -> None:
    """Raise StackError if the bucket does not exist; an empty listing does not prove it: a prefix may be new."""
    from pyarrow.fs import FileType

    with _asking(folder) as client:
        try:
            (found,) = client.get_file_info([folder.key.partition("/")[0]])
        except PermissionError:
            # The key may only have access to the prefix; listing that has worked.
            return
        if found.type == FileType.NotFound:
            raise FileNotFoundError("bucket not found")


def refusal(address: str, store: ObjectStore, error: Exception) -> str:
    """Return in one sentence, without secrets, why a request to an object store failed."""
    text = one_line(str(error).replace(store.secret, "***"))
    where = f"The object store at {store.endpoint or 'Amazon S3'}"
    bucket = f"{SCHEME}{address.removeprefix(SCHEME).partition('/')[0]}"
    for pattern, meaning in REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{where} {meaning} ({bucket}, key {store.key_id})."
    return f"{where} does not answer as it should ({bucket}): {text[:200]}"


@contextmanager
def _asking(folder: ObjectFolder) -> Iterator[S3FileSystem]:
    try:
        yield _client(folder.store)
    except OSError as error:
        raise StackError(refusal(folder.address, folder.store, error)) from None


def _client(store: ObjectStore) -> S3FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    # Otherwise the client sends a checksum after the data, and some stores keep it as part of the object.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_REQUIRED")
    return S3FileSystem(
        access_key=store.key_id,
        secret_key=store.secret,
        region=store.region,
        scheme="https" if store.is_encrypted else "http",
        endpoint_override=store.host or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )


def _is_file(client: S3FileSystem, path: ObjectFolder) -> bool:
    from pyarrow.fs import FileType

    return bool(client.get_file_info(path.key).type == FileType.File)
