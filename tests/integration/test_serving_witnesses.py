"""Servers of carts and of the cache that are emptied or started anew, and a stranger's commit to an index, are seen."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.ownership import ANSWER_CACHE, CART, SEARCH, Copy
from contracts.sightings import KeptSighting, SightingKind
from derived.answer_cache.valkey_cache import ValkeyAnswerCache
from derived.search.folders import PodFolder
from derived.search.store import SearchStore
from derived.search.writing import PodWriting
from oltp.carts.valkey_server import CartServer
from reconcile import sightings
from stack.servers.valkey import EmbeddedValkey
from stack.upkeep.asked import pairs_for
from streams.projection import Position
from tests.conftest import MakeDatabase
from witness.search import SearchWitness
from witness.servers import ServerWitness

POD = "pod1"


@pytest.fixture
def control_dsn(make_database: MakeDatabase) -> str:
    dsn = make_database("tieout_control")
    sightings.migrate(dsn)
    return dsn


def waiting(control_dsn: str) -> list[KeptSighting]:
    return sightings.waiting_sightings(control_dsn)


@pytest.mark.parametrize("copy", [CART, ANSWER_CACHE], ids=lambda copy: copy.name)
def test_a_server_that_is_emptied_or_started_anew_is_seen_once(
    copy: Copy, control_dsn: str, session_folder: Path
) -> None:
    server = EmbeddedValkey(name="seen", folder=session_folder / "seen", log=session_folder / "seen.log", memory_mb=32)
    server.start()
    asked = CartServer(server.url()) if copy is CART else ValkeyAnswerCache(server.url(), answer_seconds=5.0)
    ask = asked.look if isinstance(asked, CartServer) else asked.server_look
    witness = ServerWitness(name="seen", copy=copy.name, control_dsn=control_dsn, ask=ask, let_go=asked.close)
    try:
        with closing(CartServer(server.url())) as stranger:
            first = witness.look_once()
            assert (first.sightings, first.proven_seconds_ago is not None) == (0, True)
            stranger.client.set("a", "b")
            assert witness.look_once().sightings == 0
            stranger.client.flushall()
            assert [witness.look_once().sightings for _ in range(2)] == [1, 0]
        server.kill()
        server.start()
        assert [witness.look_once().sightings for _ in range(2)] == [1, 0]
        emptied, started = waiting(control_dsn)
        assert "emptied or replaced" in emptied.what and "started anew" in started.what
        for seen in (emptied, started):
            assert (seen.copy, seen.kind, seen.aggregate_id) == (witness.copy, SightingKind.LOST, None)
            assert pairs_for(seen) != ()
    finally:
        witness.close()
        server.stop()


def write(store: SearchStore, cut: int) -> None:
    with store.transaction() as session:
        session.lock_positions(POD, [0])
        session.move_positions(POD, "e", {0: Position(cut=cut, chunk=0)}, datetime.now(UTC))


def test_a_commit_that_is_not_the_writers_is_seen_once(control_dsn: str, tmp_path: Path) -> None:
    folder = PodFolder(tmp_path, POD)
    witness = SearchWitness(pod=POD, control_dsn=control_dsn, folder=folder.current)

    def looks() -> list[int]:
        return [witness.look_once().sightings for _ in range(2)]

    with closing(witness):
        assert looks() == [0, 0]
        store = SearchStore(tmp_path)
        for cut in (1, 2):
            write(store, cut)
            assert looks() == [0, 0]
        stranger = PodWriting(folder)
        stranger.lock()
        stranger.commit(is_announced=False)
        assert looks() == [1, 0]
        (seen,) = waiting(control_dsn)
        assert (seen.copy, seen.pod, seen.kind) == (SEARCH.name, POD, SightingKind.UNANNOUNCED)
        assert pairs_for(seen) == SEARCH.found_by
        write(store, 3)
        assert looks() == [0, 0]


def test_a_commit_that_the_writers_own_follows_at_once_is_seen_once(control_dsn: str, tmp_path: Path) -> None:
    folder, store = PodFolder(tmp_path, POD), SearchStore(tmp_path)
    witness = SearchWitness(pod=POD, control_dsn=control_dsn, folder=folder.current)
    with closing(witness):
        write(store, 1)
        assert witness.look_once().sightings == 0
        for number, cut in enumerate((2, 4), 1):
            stranger = PodWriting(folder)
            stranger.lock()
            stranger.commit(is_announced=False)
            stranger.abandon()
            for later in (cut, cut + 1):
                write(store, later)
            assert [witness.look_once().sightings for _ in range(2)] == [1, 0]
            assert len(waiting(control_dsn)) == number
        write(store, 6)
        assert witness.look_once().sightings == 0
