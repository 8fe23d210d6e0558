"""Which merchants of a pod have moved, at its cut: those that live elsewhere now, and those that came from elsewhere.

A pod keeps the rows of a merchant that has moved away; they are nobody's any more. Of one that came, the copies have
what happened before from the pods where it was. Whoever never moved is compared in its pod alone. Belongs here: telling
merchants apart, and OLTP's rows by it. Does not belong here: what a copy has of them (`reconcile/lake_side.py`,
`reconcile/finance_pairs.py`; views: `reconcile/moved.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import psycopg

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from reconcile.oltp_side import left_name
from reconcile.scratch import table

MOVED = f"""
    select m.merchant_id, r.directory_epoch
    from oltp.merchants as m left join oltp.residents as r on r.merchant_id = m.merchant_id
    where r.directory_epoch is null or r.directory_epoch > {FIRST_DIRECTORY_EPOCH}
    order by m.merchant_id
"""

RESIDENTS = "select merchant_id from oltp.residents where merchant_id = any(%s)"

OF_THE_WAY = ("outbox", "cuts")
"""What a pod holds of what it sent: it stays that pod's, whoever it is about."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The merchants of one pod that have moved."""

    away: tuple[str, ...] = ()
    """Those that live elsewhere."""
    here: Mapping[str, int] = field(default_factory=dict)
    """Those that came from elsewhere, with the epoch of the directory since which they live here."""

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.away or self.here)


NOBODY = Moved()


def moved_merchants(connection: psycopg.Connection[Any], other_pods: Iterable[str]) -> Moved:
    """Return which merchants of a pod have moved, from a connection inside the snapshot of its cut.

    `other_pods`: their DSNs. A merchant that lives in none of them has not moved away: it is compared where its rows
    are.
    """
    rows = connection.execute(MOVED).fetchall()
    gone = [merchant for merchant, epoch in rows if epoch is None]
    elsewhere = {merchant for dsn in other_pods for merchant in _residents(dsn, gone)} if gone else set()
    return Moved(
        away=tuple(merchant for merchant in gone if merchant in elsewhere),
        here={merchant: int(epoch) for merchant, epoch in rows if epoch is not None},
    )


def _residents(dsn: str, merchants: Sequence[str]) -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return [row[0] for row in connection.execute(RESIDENTS, [list(merchants)]).fetchall()]


def forget_away(connection: duckdb.DuckDBPyConnection, pod: str, names: Iterable[str], moved: Moved) -> None:
    """Delete from OLTP's scratch tables what the pod still holds of merchants that live elsewhere."""
    if not moved.away:
        return
    for name in {*names} - {*OF_THE_WAY}:
        target = table(left_name(pod, name))
        columns = {str(row[0]) for row in connection.execute(f"describe {target}").fetchall()}
        if "merchant_id" in columns:
            connection.execute(
                f"delete from {target} where merchant_id in (select unnest($away::VARCHAR[]))",
                {"away": list(moved.away)},
            )
