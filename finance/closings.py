"""A note of all months that were ever closed, beside the lake's backup, in case the books are set back.

The books are in the control database. If an older copy of it were restored, a month that was closed and handed out
could be closed again with other figures. Belongs here: that note, and what it contains and the books do not. Does not
belong here: the books (`finance/books.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from contracts.errors import StackError
from derived.objects import Folder, read_file, replace_file
from finance.books import ClosedPeriod
from finance.content_hash import sha256

logger = logging.getLogger("tieout.books")

FILE = "closed_periods.json"


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """The fact that a month was closed."""

    period: str
    closed_at: datetime
    closed_by: str
    certificate_sha256: str


def remember(folder: Folder, closed: Iterable[ClosedPeriod]) -> None:
    """Add these months to the note in `folder`; if the note cannot be written, only log a warning."""
    try:
        noted = {(one.period, one.certificate_sha256): one for one in noted_closings(folder)}
        noted |= {(one.period, one.certificate_sha256): one for one in map(_closing, closed)}
        content = msgspec.json.encode(sorted(noted.values(), key=lambda one: (one.period, one.closed_at)))
        replace_file(folder / FILE, msgspec.json.format(content, indent=2))
    except (OSError, StackError) as error:
        # The month is closed anyway, and the next closing adds it to the note.
        logger.warning("that a month was closed could not be noted: %s", error)


def noted_closings(folder: Folder) -> list[Closing]:
    """Return the closings noted in `folder`; empty if there is no note. StackError if it cannot be read."""
    path = folder / FILE
    try:
        data = read_file(path)
        return [] if data is None else msgspec.json.decode(data, type=list[Closing])
    except (OSError, msgspec.MsgspecError) as error:
        raise StackError(f"The note of closed months, {path}, cannot be read: {error}.") from None


def forgotten(folder: Folder, closed: Sequence[ClosedPeriod]) -> Iterator[str]:
    """Yield a sentence for each closing in the note that the books do not have, or have with another certificate."""
    known = {(one.period, one.certificate_sha256) for one in map(_closing, closed)}
    for one in noted_closings(folder):
        if (one.period, one.certificate_sha256) not in known:
            yield (
                f"{one.period} was closed on {one.closed_at:%Y-%m-%d %H:%M} UTC by {one.closed_by}, and the books do "
                "not have that: the control database was set back or replaced. Put its newer copy back; if that is "
                f"lost for good, take the month out of {folder / FILE}: what was handed out is then no longer proven"
            )


def _closing(closed: ClosedPeriod) -> Closing:
    return Closing(
        period=str(closed.period),
        closed_at=closed.closed_at,
        closed_by=closed.closed_by,
        certificate_sha256=sha256(closed.certificate.encode()),
    )
