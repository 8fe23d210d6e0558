"""The example of a projection of one's own, as the how-to runs it: following a real log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.events.fulfillment import FulfillmentState
from contracts.ids import PARTITION_FUNCTION, uuid7
from examples.notifications import Notifications
from streams import codec
from streams.consumer import Consumer
from streams.cuts import Cut
from streams.projection import FencedError
from streams.publishing import CutPublication
from streams.valkey_log import ValkeyLog
from tests.derived_work import EPOCH, NOON, FakePod, order


def fulfillment() -> FulfillmentState:
    return FulfillmentState(
        merchant_id="m1",
        version=1,
        fulfillment_id=str(uuid7()),
        order_id=str(uuid7()),
        location_id="london",
        tracking_number=None,
        shipped_at=NOON,
        lines=[],
    )


def publish(log: ValkeyLog, pod: FakePod, *events: dict[str, object]) -> None:
    schema = codec.STORED_SCHEMA.append(pa.field("partition", pa.int32()))
    cut = Cut(
        cut=pod.cut_number,
        snapshot="1:1:",
        epoch=EPOCH,
        registered_at=NOON,
        partition_function=PARTITION_FUNCTION,
        partition_count=pod.partitions,
        chunk_rows=pod.chunk_rows,
        codec="arrow-ipc",
    )
    publication = CutPublication(pod=pod.pod, cut=cut, generation=0)
    for entries in publication.add(pa.RecordBatch.from_pylist(list(events), schema=schema)):
        log.append(pod.pod, entries)
    log.append(pod.pod, publication.finish())
    log.append_manifest(pod.pod, publication.manifest(NOON))


def noted(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("select merchant_id, fulfillment_id from notifications").fetchall()


def test_every_shipment_is_noted_once(log: ValkeyLog, tmp_path: Path) -> None:
    path, pod, shipped = tmp_path / "notifications.db", FakePod(), fulfillment()
    for state, event_type in ((order(), "order_placed"), (shipped, "fulfillment_shipped")):
        pod.cut_number += 1
        publish(log, pod, pod.event(state, event_type=event_type))
    for _ in range(2):  # the second consumer goes on where the first one ended
        assert Consumer(Notifications(path), "pod1", log).drain().applied_cut == 2
        assert noted(path) == [("m1", shipped.fulfillment_id)]


def test_the_same_step_twice_is_fenced(tmp_path: Path) -> None:
    path, pod, shipped = tmp_path / "notifications.db", FakePod(), fulfillment()
    pod.cut_number = 1
    work = pod.step(pod.entries([pod.event(shipped, event_type="fulfillment_shipped")]))
    Notifications(path).apply(work)
    with pytest.raises(FencedError):
        Notifications(path).apply(work)
    assert noted(path) == [("m1", shipped.fulfillment_id)]
