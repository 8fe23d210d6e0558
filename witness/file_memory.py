"""What the witness of the lake remembers of each file, so that it sees a file that was written again in its size.

Files of the lake are written once. A file with another time or inode than at an earlier look was written again; and
all files are read in turn, at a stated rate, because whoever writes may set the time back. What is remembered is lost
when the witness ends.

Belongs here: this memory. Does not belong here: which files the catalog names (`witness/lake_seen.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

from witness.lake_seen import NamedFile

BYTES_PER_SECOND = 2_000_000
"""So many bytes of files are read in a second, on average; a lake of 10 GB is read through in less than two hours."""
SAVED_SECONDS_MAX = 5.0
PIECE_BYTES = 1 << 20
WRITTEN_AGAIN = "was written again, by its time at {moment:%Y-%m-%d %H:%M:%S.%f} UTC"

Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Known:
    """A file as it was at an earlier look."""

    changed_ns: int
    inode: int
    digest: bytes | None = None
    """Of its content; None while it was not read."""


@dataclass(kw_only=True)
class FileMemory:
    """Remembers files, and says which of them are not what they were."""

    bytes_per_second: int = BYTES_PER_SECOND
    _known: dict[Key, Known] = field(default_factory=dict)
    _credit: float = 0.0
    """Bytes that may be read now; negative after a file that was larger."""

    def earn(self, seconds: float) -> None:
        """Allow to read what the rate gives for this time."""
        limit = self.bytes_per_second * SAVED_SECONDS_MAX
        self._credit = min(self._credit + self.bytes_per_second * seconds, limit)

    def wrong(self, file: NamedFile) -> str:
        """Return why a file of the right size is not what it was; empty when it is, or was not known."""
        try:
            state = file.path.stat()
        except OSError:  # it is gone, which the next look says
            self._known.pop(file.key, None)
            return ""
        before = self._known.get(file.key)
        now = Known(changed_ns=state.st_mtime_ns, inode=state.st_ino)
        if before is None:
            self._known[file.key] = self._read(file, now)
            return ""
        is_touched = (before.changed_ns, before.inode) != (now.changed_ns, now.inode)
        now = self._read(file, now, is_urgent=is_touched)
        if now.digest is None:
            self._known[file.key] = before
            return ""
        self._known[file.key] = now
        # One that was put back with the same content is right again.
        is_other = before.digest != now.digest if before.digest is not None else is_touched
        moment = datetime.fromtimestamp(now.changed_ns / 1e9, UTC)
        return WRITTEN_AGAIN.format(moment=moment) if is_other else ""

    def keep_only(self, keys: Collection[Key]) -> None:
        """Forget the files that the catalog does not name any more."""
        self._known = {key: known for key, known in self._known.items() if key in keys}

    def _read(self, file: NamedFile, known: Known, *, is_urgent: bool = False) -> Known:
        """Return it with the digest of its content, if the rate allows to read it now."""
        if self._credit <= 0 and not is_urgent:
            return known
        self._credit -= file.size
        return replace(known, digest=_digest(file.path))


def _digest(path: Path) -> bytes | None:
    found = blake2b(digest_size=16)
    try:
        with path.open("rb") as content:
            while piece := content.read(PIECE_BYTES):
                found.update(piece)
    except OSError:  # compaction has removed it meanwhile
        return None
    return found.digest()
