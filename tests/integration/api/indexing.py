"""The search index of a test's pod, written from its outbox without a consumer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import psycopg

from contracts.settings import Settings
from derived.keyed.decoding import LatestEvent, content
from derived.search.documents import ROOTS
from derived.search.folders import base_folder
from derived.search.store import SearchStore
from stack.composition.comparison import build_reconcile_context
from streams.projection import Position

EVENTS = """
    select merchant_id, aggregate_id, aggregate_version, directory_epoch, event_id::text, 'e', 'pod1', schema_version,
           payload
    from oltp.outbox where aggregate_type = %s order by position"""


def index_everything(settings: Settings) -> int:
    """Write what the pod's events say into its index, as its consumer would; return the cut that it then stands at."""
    with build_reconcile_context(settings).take_cut("pod1") as opened:
        cut, epoch = opened.cut, opened.epoch
    (pod,) = settings.pods
    with (
        psycopg.connect(pod.owner_dsn) as connection,
        SearchStore(base_folder(settings)).transaction() as session,
    ):
        session.lock_positions("pod1", [0])
        for root in ROOTS:
            rows = connection.execute(EVENTS, [root.aggregate_type]).fetchall()
            for event in (LatestEvent(*map(_text, row)) for row in rows):
                session.write(root, content(root, [event]))
        session.move_positions("pod1", epoch, {0: Position(cut=cut, chunk=0)}, datetime.now(UTC))
    return cut


def _text(value: Any) -> Any:
    return value if isinstance(value, int | str) else json.dumps(value)
