"""A copy whose next cut the log no longer has: found as that, and mended, whatever took it from the log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
import redis

from bench.started import SEED
from bench.world import trade
from contracts.breaks import BreakState
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass, Verdict
from derived.known_cuts import cut_sources_of
from derived.lake_backup import read_index, write_index
from derived.retention import prune_outboxes
from drills.damages.place import until
from repair.values import ActionKind
from stack.composition.damaging import place_of
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS, build_projection
from stack.composition.repairing import repairing_tools
from streams.draining import drain_pod
from streams.lag import observe
from streams.logs import build_log
from streams.relay import build_relay
from streams.valkey_log import ValkeyLog
from tests.integration.reconcile_world import VIEW_PAIRS, propagate
from tests.integration.test_repair_limits import World
from traffic.generator import place_orders

PAIR = "log_positions"
COPIES = PROJECTIONS


@pytest.fixture
def system(settings: Settings) -> Settings:
    """Two pods with some trade, in every copy; nothing is published or read but by hand."""
    migrate_everything(settings)
    trade(settings, orders=20, seed=SEED, processes=0)
    drain_everything(settings)
    return settings


@contextmanager
def repairs_of(settings: Settings) -> Iterator[World]:
    """Relays and consumers run meanwhile."""
    with repairing_tools(settings, SILENT) as tools:
        yield World(tools=tools, place=place_of(settings, "pod1"))


def sell(settings: Settings, seed: int) -> None:
    place_orders(settings, orders=4, seed=seed, processes=0)


def newest(settings: Settings) -> int:
    with closing(build_log(settings)) as log:
        return log.tail("pod1", 1).manifest_cut


def lose_what_nobody_has_read(settings: Settings) -> None:
    """Empty the log under a relay that runs: it goes on with the next cut, and copies lack those before."""
    stop = threading.Event()
    with closing(build_relay(settings.pods[0], settings, cut_sources=cut_sources_of(settings))) as relay:
        running = threading.Thread(target=relay.run, args=(stop,))
        running.start()
        before = newest(settings)
        sell(settings, 1)
        until(lambda: newest(settings) > before, "the cuts that are lost")
        lost = newest(settings)
        with redis.Redis.from_url(settings.log_url) as client:
            client.flushdb()
        sell(settings, 2)
        until(lambda: newest(settings) > lost, "a cut after them")
        stop.set()
        running.join()


def publish_twice(settings: Settings) -> int:
    """Publish two cuts at least that no copy reads; return the last one."""
    pod, cut_sources = settings.pods[0], cut_sources_of(settings)
    cuts = []
    for seed in (1, 2):
        sell(settings, seed)
        cuts.append(drain_pod(pod, settings, cut_sources=cut_sources).cut)
    assert cuts[0] < cuts[1]
    return cuts[1]


def trim_by_hand(settings: Settings) -> None:
    """Trim the log beyond what its readers have."""
    cut = publish_twice(settings)
    with closing(build_log(settings)) as log:
        log.trim("pod1", cut)


def delete_manifests(settings: Settings) -> None:
    """Delete one stream under a relay that runs: it goes on with the next manifest."""
    cut = publish_twice(settings)
    with closing(ValkeyLog(settings.log_url)) as log, redis.Redis.from_url(settings.log_url) as client:
        (last,) = log.manifests("pod1", cut - 1, limit=1)
        client.delete(log.manifests_key("pod1"))
        log.append_manifest("pod1", last)


def states(settings: Settings) -> dict[str, str]:
    found = {}
    with closing(build_log(settings)) as log:
        for name in COPIES:
            with closing(build_projection(name, settings)) as projection:
                found[name] = observe(projection, "pod1", log).state
    return found


def check_whole(world: World) -> None:
    """Every copy has caught up, and nothing is doubled or missing."""
    settings = world.tools.settings
    drain_everything(settings)
    assert set(states(settings).values()) == {"current"}
    results = world.tools.recheck(("oltp_lake", "outbox_log", PAIR, "log_manifests", *VIEW_PAIRS), ("pod1",))
    assert {result.verdict for result in results} == {Verdict.CONSISTENT}


@pytest.mark.in_turn("repairs", seconds=14)
@pytest.mark.parametrize(
    "lose",
    [
        lose_what_nobody_has_read,
        pytest.param(trim_by_hand, marks=pytest.mark.long),
        pytest.param(delete_manifests, marks=pytest.mark.long),
    ],
)
def test_what_copies_need_next_is_published_again(system: Settings, lose: Callable[[Settings], None]) -> None:
    lose(system)
    with repairs_of(system) as world:
        world.compare(PAIR)
        found = world.breaks(BreakState.OPEN)
        assert {(item.pair, item.key, item.kind) for item in found} == {
            (PAIR, (copy,), DifferenceClass.DIFFERENT) for copy in COPIES
        }
        report = world.repair()
        assert [action.kind for action in report.actions] == [ActionKind.REPUBLISH] and report.is_clean
        assert {item.state for item in world.breaks()} == {BreakState.REPAIRED}
        check_whole(world)


def prune_everything(system: Settings, copies: tuple[str, ...] = COPIES) -> None:
    """Trade into these copies; then neither the outbox nor the log has anything that went before."""
    for seed in (1, 2):
        sell(system, seed)
        propagate(system, system.pods[0], copies)
    prune_outboxes(system)
    with closing(build_log(system)) as log:
        log.trim("pod1", newest(system))


@pytest.mark.long
def test_a_view_that_needs_a_pruned_cut_is_made_again_and_a_lake_without_backup_goes_to_people(
    system: Settings,
) -> None:
    prune_everything(system, tuple(copy for copy in COPIES if copy != "account_view"))
    with repairs_of(system) as world:
        world.compare(PAIR)
        assert [(item.key, item.kind) for item in world.breaks()] == [(("account_view",), DifferenceClass.DIFFERENT)]
        report = world.repair()
        assert [action.kind for action in report.actions] == [ActionKind.REBUILD_VIEW] and report.is_clean
        check_whole(world)

        world.place.change_lake("update lake.raw.fence_lake_pod1 set cut = 1, chunk = 0")
        backup = Path(str(system.lake_backup_path))
        backup.rename(backup.with_name("elsewhere"))
        world.compare(PAIR)
        assert world.repair().is_clean is False
        (escalated,) = world.breaks(BreakState.ESCALATED)
        assert escalated.key == ("lake",) and "tieout restore-lake" in escalated.reason


def set_position_back(world: World) -> None:
    world.place.change_lake("update lake.raw.fence_lake_pod1 set cut = 1, chunk = 0")


def lose_what_followed(world: World) -> None:
    """As an older catalog would have it: position, events and recorded cuts."""
    set_position_back(world)
    for table in ("events", "cuts"):
        world.place.change_lake(f"delete from lake.raw.{table} where pod = 'pod1' and cut > 1")


@pytest.mark.in_turn("repairs")
@pytest.mark.parametrize("set_back", [set_position_back, pytest.param(lose_what_followed, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "is_backup_newest",
    [pytest.param(True, marks=pytest.mark.long), False],
    ids=["nothing came since", "more came since"],
)
def test_a_lake_that_needs_pruned_cuts_takes_them_in_from_its_backup(
    system: Settings, set_back: Callable[[World], None], is_backup_newest: bool
) -> None:
    prune_everything(system)
    if not is_backup_newest:
        for seed in (3, 4):
            sell(system, seed)
            propagate(system, system.pods[0], COPIES)
        with closing(build_log(system)) as log:
            log.trim("pod1", newest(system))
    with repairs_of(system) as world:
        set_back(world)
        world.compare(PAIR)
        assert [item.key for item in world.breaks()] == [("lake",)]
        report = world.repair()
        kinds = [ActionKind.LOAD_CUTS] if is_backup_newest else [ActionKind.REPUBLISH, ActionKind.LOAD_CUTS]
        assert [action.kind for action in report.actions] == kinds and report.is_clean
        assert {item.state for item in world.breaks()} == {BreakState.REPAIRED}
        check_whole(world)


@pytest.mark.in_turn("repairs")
@pytest.mark.parametrize("damage", ["another history", "a file was changed"])
def test_a_backup_that_does_not_fit_changes_nothing(system: Settings, damage: str) -> None:
    prune_everything(system)
    with repairs_of(system) as world:
        lose_what_followed(world)
        (segment,) = (segment for segment in read_index(system.lake_backup_path) if segment.pod == "pod1")
        if damage == "another history":
            write_index(system.lake_backup_path, [msgspec.structs.replace(segment, epoch="1:2:3")])
        else:
            write_index(system.lake_backup_path, [msgspec.structs.replace(segment, checksum="1")])
        before = states(system), lake_events(world)
        world.compare(PAIR)
        assert world.repair().is_clean is False
        assert (states(system), lake_events(world)) == before
        assert [item.state for item in world.breaks()] != [BreakState.REPAIRED]


@pytest.mark.in_turn("repairs")
@pytest.mark.parametrize("is_read", [False, True], ids=["only the log has it", "log and lake have it"])
def test_the_log_is_not_written_again_without_an_event_that_the_outbox_has_lost(
    system: Settings, is_read: bool
) -> None:
    cut = publish_twice(system)
    if is_read:
        drain_everything(system)
    place = place_of(system, "pod1")
    with place.oltp() as connection:
        newest_event = connection.execute("select event_id::text from oltp.outbox order by position desc limit 1")
        (event_id,) = newest_event.fetchall()[0]
    place.change_oltp(
        "create table public.kept as select * from oltp.outbox where event_id = %(event)s::uuid", event=event_id
    )
    place.change_oltp("delete from oltp.outbox where event_id = %(event)s::uuid", event=event_id)
    before = generation(system)
    with repairs_of(system) as world:
        world.compare("outbox_log")
        assert world.repair().is_clean is False
        (escalated,) = world.breaks()
        assert escalated.state is BreakState.ESCALATED and f"event {event_id}" in escalated.reason
        assert generation(system) == before, "nothing was written again"
        # Put back as it was, it is in order.
        place.change_oltp("insert into oltp.outbox overriding system value select * from public.kept")
        world.compare("outbox_log")
        assert [item.state for item in world.breaks()] == [BreakState.VANISHED]
        assert newest(system) >= cut


def generation(settings: Settings) -> int:
    with closing(build_log(settings)) as log:
        return log.tail("pod1", 1).generation


def lake_events(world: World) -> int:
    with world.place.lake() as lake:
        # What was sold in the other pod may still be on its way.
        ((number,),) = lake.execute("select count(*) from lake.raw.events where pod = 'pod1'").fetchall()
        return int(number)
