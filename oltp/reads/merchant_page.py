"""A merchant's configuration with the cut that it is as of, read in one snapshot.

Belongs here: reading it from a pod's database. Does not belong here: keeping it (`derived/answer_cache/`), any decision
(a command reads the configuration again, in its own transaction).
"""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from contracts.assembled import Assembled, merchant_tag
from contracts.errors import PodFencedError
from contracts.events.merchant import MerchantState
from oltp.reads.aggregates import states_by

_ONE_SNAPSHOT = "set transaction isolation level repeatable read, read only"
_AS_OF = """
select residents.directory_epoch, last_cut.cut, last_cut.epoch from (select) as nothing
left join oltp.residents on residents.merchant_id = %(merchant_id)s
left join lateral (select cut, epoch from oltp.cuts order by cut desc limit 1) as last_cut on true
"""


def read_merchant(connection: psycopg.Connection[Any], merchant_id: str, *, directory_epoch: int) -> Assembled:
    """Return a merchant's state as JSON. Raises PodFencedError unless it lives in this pod since this epoch."""
    with connection.transaction():
        connection.execute(_ONE_SNAPSHOT)
        row = connection.execute(_AS_OF, {"merchant_id": merchant_id}).fetchone()
        resident_since, cut, epoch = row if row is not None else (None, None, None)
        if resident_since != directory_epoch:
            raise PodFencedError(f"Merchant {merchant_id} does not live in this pod as of epoch {directory_epoch}.")
        found = states_by(connection, MerchantState, merchant_id, MerchantState.ID_FIELD, merchant_id)
    return Assembled(
        body=msgspec.json.encode(found[0]) if found else None,
        epoch=epoch or "",
        cut=cut or 0,
        tags=(merchant_tag(merchant_id),),
    )
