"""The store of the search index: documents and positions commit together, versions win, generations switch."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from contracts.errors import NotFoundError
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.events.product import ProductKind, ProductState, Variant
from derived.keyed.decoding import LatestEvent, content
from derived.keyed.store import Standing
from derived.search.asking import Question, answer
from derived.search.documents import PRODUCTS
from derived.search.folders import PodFolder
from derived.search.readers import PodReader
from derived.search.shares import row_at
from derived.search.store import SearchStore
from derived.search.writing import PodWriting
from streams.projection import START, FencedError, ParkedEvent, PoisonEventError, Position, Work

POD, EPOCH = "pod1", "7401:16384:1"
NOW = datetime(2026, 3, 4, tzinfo=UTC)
AT_3 = Position(cut=3, chunk=0)


def product(number: int, *, version: int = 1, price: int = 5, title: str = "Lantern") -> ProductState:
    variant = Variant(variant_id=f"v{number}", sku=f"S{number}", title="", is_active=True, unit_price_micro=price)
    return ProductState(
        merchant_id="m1",
        version=version,
        product_id=f"p{number}",
        title=title,
        kind=ProductKind.GOODS,
        tax_category="standard",
        is_active=True,
        variants=[variant],
    )


def event(state: ProductState, *, epoch: str = EPOCH, directory_epoch: int = FIRST_DIRECTORY_EPOCH) -> LatestEvent:
    return LatestEvent(
        merchant_id=state.merchant_id,
        aggregate_id=state.product_id,
        aggregate_version=state.version,
        directory_epoch=directory_epoch,
        event_id=f"e-{state.product_id}-{state.version}",
        epoch=epoch,
        pod=POD,
        schema_version=1,
        payload=msgspec.json.encode({"state": state, "changed": []}).decode(),
    )


def write(store: SearchStore, *states: ProductState, at: Position | None = None, epoch: str = EPOCH) -> None:
    with store.transaction() as session:
        session.lock_positions(POD, [0])
        session.write(PRODUCTS, content(PRODUCTS, [event(state, epoch=epoch) for state in states]))
        if at is not None:
            session.move_positions(POD, epoch, {0: at}, NOW)


def titles(base: Path) -> dict[str, str]:
    opened = PodWriting(PodFolder(base, POD))
    rows = {key: opened.row(key) for key in opened.keys(PRODUCTS)}
    return {key: msgspec.json.decode(row)["title"] for key, row in rows.items() if row is not None}


@pytest.fixture
def store(tmp_path: Path) -> SearchStore:
    return SearchStore(tmp_path)


def test_documents_and_position_commit_together_or_not_at_all(store: SearchStore, tmp_path: Path) -> None:
    write(store, product(1), at=AT_3)

    def fail_after_writing() -> None:
        with store.transaction() as session:
            session.lock_positions(POD, [0])
            session.write(PRODUCTS, content(PRODUCTS, [event(product(2))]))
            session.move_positions(POD, EPOCH, {0: Position(cut=9, chunk=0)}, NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_writing()
    with store.trial() as session:
        session.lock_positions(POD, [0])
        session.write(PRODUCTS, content(PRODUCTS, [event(product(2))]))
    with store.snapshot() as session:
        assert session.positions(POD) == {0: (EPOCH, AT_3)} and session.positions("pod2") == {}
    assert set(titles(tmp_path)) == {"m1/product/p1"}


def test_the_newest_version_wins_whatever_comes_when(store: SearchStore, tmp_path: Path) -> None:
    write(store, product(1, version=2, title="Second"))
    write(store, product(1, version=1, title="First"))
    assert titles(tmp_path) == {"m1/product/p1": "Second"}
    write(store, product(1, version=1, title="Of another epoch"), epoch="7401:16384:2")
    assert titles(tmp_path) == {"m1/product/p1": "Of another epoch"}
    with store.transaction() as session:
        later = event(product(1, version=1, title="Moved here"), epoch="7401:16384:2", directory_epoch=2)
        session.write(PRODUCTS, content(PRODUCTS, [later]))
        # A transaction sees what it has written itself.
        session.write(PRODUCTS, content(PRODUCTS, [event(product(1, version=7), epoch="7401:16384:2")]))
    assert titles(tmp_path) == {"m1/product/p1": "Moved here"}


def test_rows_are_inserted_deleted_and_digested_as_the_transaction_sees_them(
    store: SearchStore, tmp_path: Path
) -> None:
    write(store, product(1), product(2))
    with store.transaction() as session:
        before = session.digest_of_pod(PRODUCTS, POD)
        assert session.delete_pod(PRODUCTS, POD, except_keys=[("m1", "p2")]) == 1
        assert not session.insert(PRODUCTS, content(PRODUCTS, [event(product(2)), event(product(3))]))
        assert session.insert(PRODUCTS, content(PRODUCTS, [event(product(1))]))
        assert session.digest_of_pod(PRODUCTS, POD) == before
        assert session.delete(PRODUCTS, [("m1", "p2"), ("m1", "p9")], POD) == 1
        assert session.pods_of(PRODUCTS, [("m1", "p1"), ("m1", "p2")]) == {POD: {("m1", "p1")}}
        assert {found[2] for found in session.digests(PRODUCTS, [("m1", "p1"), ("m1", "p2")])} == {"p1"}
    assert set(titles(tmp_path)) == {"m1/product/p1"}


def test_what_the_engine_cannot_hold_is_refused_alone(store: SearchStore, tmp_path: Path) -> None:
    good, bad = event(product(1)), event(product(2, price=2**70))
    with store.transaction() as session:
        (refused,) = session.write_or_refuse(PRODUCTS, [good, bad])
    assert isinstance(refused, PoisonEventError) and refused.event_id == bad.event_id
    assert set(titles(tmp_path)) == {"m1/product/p1"}


def test_parked_events_are_kept_released_skipped_and_set_back(store: SearchStore) -> None:
    parked = ParkedEvent(
        aggregate_key="m1/product/p1",
        event_id="e1",
        cut=4,
        position=7,
        event={**dict.fromkeys(("pod", "epoch"), "x"), "partition": 0, "recorded_at": NOW, "occurred_at": None},
        error="No.",
        parked_at=NOW,
    )
    work = Work(
        pod=POD, epoch=EPOCH, entries=[], expected={0: START}, positions={0: AT_3}, data_at=NOW, parked=[parked]
    )
    with store.transaction() as session:
        session.park_and_release(work)
    with store.snapshot() as session:
        (found,) = session.parked_events(POD)
        assert session.parked_keys(POD) == {"m1/product/p1"} and session.parked_events(POD, ["other"]) == []
    assert (found.event_id, found.event["recorded_at"], found.parked_at) == ("e1", NOW, NOW)
    unknown = ["m1/product/p9"]
    for gone in (replace(work, parked=(), released=unknown), replace(work, parked=(), behind=unknown)):
        with pytest.raises(FencedError), store.transaction() as session:
            session.park_and_release(gone)
    with pytest.raises(NotFoundError), store.transaction() as session:
        session.skip(POD, "e9", reason="r", by="b")
    with store.transaction() as session:
        session.skip(POD, "e1", reason="Told.", by="ada")
    with store.snapshot() as session:
        assert session.skipped_ids(POD) == ["e1"] and session.parked_events(POD) == []
    with store.transaction() as session:
        session.park_and_release(work)
        session.set_back(POD, {0: Standing(epoch=EPOCH, position=AT_3, data_at=NOW)})
    with store.snapshot() as session:
        assert session.parked_keys(POD) == frozenset() and session.positions(POD) == {0: (EPOCH, AT_3)}


def test_one_writer_at_a_time_and_the_next_one_waits(store: SearchStore, tmp_path: Path) -> None:
    first = PodWriting(PodFolder(tmp_path, POD))
    first.lock()
    waiting = threading.Thread(target=write, args=(store, product(2)))
    waiting.start()
    first.put(PRODUCTS, content(PRODUCTS, [event(product(1))]).rows[0])
    first.commit()
    waiting.join(timeout=20)
    assert set(titles(tmp_path)) == {"m1/product/p1", "m1/product/p2"}


def test_a_reader_looks_again_when_it_needs_a_newer_cut(store: SearchStore, tmp_path: Path) -> None:
    write(store, product(1), at=AT_3)
    reader = PodReader(tmp_path, POD, monotonic=lambda: 0.0)
    assert reader.seen().applied_cut == 3
    write(store, product(2), at=Position(cut=4, chunk=0))
    assert reader.seen().applied_cut == 3, "within 100 ms it stays at its commit"
    assert reader.seen(cut_min=4).applied_cut == 4


def test_a_new_generation_is_read_after_the_switch_and_the_old_one_until_then(
    store: SearchStore, tmp_path: Path
) -> None:
    write(store, product(1, title="Old"), at=AT_3)
    folder = PodFolder(tmp_path, POD)
    reader = PodReader(tmp_path, POD, monotonic=iter(range(100)).__next__)
    before = reader.seen()
    new = folder.next()
    write(SearchStore(tmp_path, generations={POD: new}), product(1, title="New"), at=AT_3)
    assert b"Old" in (row_at(reader.seen().searcher, "m1/product/p1") or b"")
    folder.switch(new)
    assert b"New" in (row_at(reader.seen().searcher, "m1/product/p1") or b"")
    assert folder.remove_older() == ["g000001"] and folder.next().name == "g000003"
    assert b"Old" in (row_at(before.searcher, "m1/product/p1") or b""), "an open searcher goes on"
    assert answer(reader.seen(), Question(merchant_id="m1")).hits == [], "the merchant is not known"
    folder.wipe()
    assert folder.current() is None
