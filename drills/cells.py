"""The steps of each cell of the matrix: break, observe, recover, prove.

Belongs here: the sequence of steps, per test and copy. Does not belong here: the observations (`drills/probes.py`,
`drills/answers.py`, `drills/decisions.py`), the declaration (`contracts/drills.py`). A test checks that this module
agrees with the declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contracts.drills import Drill, DrillTest, Promise
from contracts.ownership import LAKE, WAREHOUSE, CopyKind
from drills import decisions, probes, wiping
from drills.answers import ask, ask_report, await_sale, says_its_age, serves_what_it_has
from drills.copies import LOOKED_AT, answer_cache, cart, drilled, webhooks
from drills.scene import Scene, copy_states
from drills.system import CONTROL_SERVER, LOG_SERVER
from streams.lag import trim_log

Play = Callable[[Scene], None]


def fall_behind(scene: Scene) -> None:
    """Lag: stop the workers of the copy while orders come in, then start them again."""
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    if Promise.SAYS_ITS_AGE in scene.drill.meanwhile and scene.drill.copy is not WAREHOUSE:
        for sale in sales:
            await_sale(scene, sale)
    scene.stop_copy()
    probes.trade(scene)
    probes.lag_is_reported(scene)
    if Promise.LATE_IS_NOT_WRONG in scene.drill.meanwhile:
        probes.late_is_not_wrong(scene)
    if Promise.SAYS_ITS_AGE in scene.drill.meanwhile:
        for sale in sales:
            says_its_age(scene, sale)
    scene.start_copy()
    scene.prove()


def lose_log_server(scene: Scene) -> None:
    """Source outage: stop the log server for a copy that is built from the log."""
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    before = {sale.pod: await_sale(scene, sale) for sale in sales}
    states = scene.system.worker_states()
    scene.system.kill_server(LOG_SERVER)
    scene.breaks()
    probes.trade(scene)
    probes.outage_is_reported(scene, scene.copy_states, pod_states)
    for sale in sales:
        serves_what_it_has(scene, sale, before[sale.pod])
        says_its_age(scene, sale)
    scene.system.start_server(LOG_SERVER)
    probes.comes_back(scene, states)
    scene.prove()


def pod_states(status: Mapping[str, Any]) -> Mapping[str, str | None]:
    """Return the states of the pods in a status, by pod."""
    return {one["pod"]: one["state"] for one in status["pods"]}


# The log


def replay_log(scene: Scene) -> None:
    """Replay: the log server loses all data, and the relays publish every cut again."""
    newest = dict(scene.log_cuts)
    scene.system.kill_server(LOG_SERVER)
    scene.breaks()
    wiping.wipe_log(scene)
    probes.trade(scene)
    scene.system.start_server(LOG_SERVER)
    for pod in scene.pods:
        decisions.log_is_whole(scene, pod, through_cut=newest[pod])
    scene.await_running()
    scene.prove()


def read_stale_log(scene: Scene) -> None:
    """Stale read: the log, and so every copy, lags behind; OLTP refuses wrong decisions based on the copies."""
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    unpaid = {pod: scene.trader.place_unpaid(pod) for pod in scene.pods}
    for sale in sales:
        await_sale(scene, sale, copy=LOOKED_AT)
    scene.stop_copy()
    for sale in sales:
        scene.trader.sell(sale.pod)
        scene.trader.refund(sale)
        scene.trader.cancel(sale.pod, unpaid[sale.pod])
        says_its_age(scene, sale, copy=LOOKED_AT)
        decisions.refuses(
            scene,
            sale.pod,
            {
                "refunding again": lambda sale=sale: scene.trader.refund(sale),  # type: ignore[misc]
                "shipping what was cancelled": lambda pod=sale.pod: scene.trader.ship(pod, unpaid[pod]),  # type: ignore[misc]
            },
        )
    decisions.nothing_is_forgotten(scene)
    probes.late_is_not_wrong(scene)
    scene.start_copy()
    scene.prove()


def lose_pod(scene: Scene) -> None:
    """Source outage: a pod's server is killed; other pods continue, and no acknowledged order is lost."""
    lost, *others = scene.pods
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    before = {sale.pod: await_sale(scene, sale, copy=LOOKED_AT) for sale in sales}
    states = scene.system.worker_states()
    scene.system.kill_server(lost)
    scene.breaks()
    probes.trade(scene, pods=others, promise=Promise.OTHER_PODS_GO_ON, has_load=False)
    probes.is_refused_in_words(scene, f"an order in {lost}", lambda: scene.trader.sell(lost))
    probes.outage_is_reported(
        scene,
        lambda status: {lost: pod_states(status)[lost]},
        lambda status: {pod: pod_states(status)[pod] for pod in others},
    )
    (sale,) = [one for one in sales if one.pod == lost]
    serves_what_it_has(scene, sale, before[lost], copy=LOOKED_AT)
    scene.system.start_server(lost)
    probes.comes_back(scene, states)
    scene.prove()


# The lake


def replay_lake(scene: Scene) -> None:
    """Replay: the lake is lost completely, and restored from the backup and the log."""
    for pod in scene.pods:
        await_sale(scene, scene.trader.sell(pod))
    backed_up = scene.system.run(["backup", "--json"])
    for pod in scene.pods:
        await_sale(scene, scene.trader.sell(pod))
    scene.stop_copy()
    wiping.wipe_lake(scene)
    probes.trade(scene)
    probes.is_refused_in_words(scene, "a report", lambda: ask_report(scene.system))
    restored = scene.system.run(["restore-lake", "--json"])
    decisions.was_restored(scene, backed_up, restored)
    scene.start_copy()
    scene.prove()


def read_stale_lake(scene: Scene) -> None:
    """Stale read: the lake lags behind, so pruning deletes nothing and rebuilding waits."""
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    for sale in sales:
        await_sale(scene, sale)
    scene.stop_copy()
    for sale in sales:
        newer = scene.trader.sell(sale.pod)
        await_sale(scene, newer, copy=LOOKED_AT)
        says_its_age(scene, sale)
        decisions.rebuild_waits(scene, newer)
    decisions.nothing_is_forgotten(scene)
    scene.start_copy()
    scene.prove()


# The warehouse


def replay_warehouse(scene: Scene) -> None:
    """Replay: all tables that dbt built are dropped, and computed again from the lake."""
    before = ask_report(scene.system)
    scene.breaks()
    wiping.wipe_warehouse(scene)
    probes.trade(scene)
    probes.is_refused_in_words(scene, "a report", lambda: ask_report(scene.system))
    rebuilt = scene.system.run(["rebuild", "warehouse", "--json"])
    decisions.reports_the_same(scene, before, rebuilt)
    scene.prove()


def read_stale_reports(scene: Scene) -> None:
    """Stale read: reports lack the newest refunds and report their age; OLTP refuses to refund twice."""
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    scene.store.bring({pod: scene.store.goal(pod) for pod in scene.pods})
    before = {sale.pod: ask(scene.system, WAREHOUSE, sale) for sale in sales}
    scene.breaks()
    for sale in sales:
        scene.trader.refund(sale)
        scene.trader.ship(sale.pod, scene.trader.sell(sale.pod).order)
    for sale in sales:
        serves_what_it_has(scene, sale, before[sale.pod])
        says_its_age(scene, sale)
        decisions.refuses(scene, sale.pod, {"refunding again": lambda sale=sale: scene.trader.refund(sale)})  # type: ignore[misc]
    scene.prove()


def lose_lake_catalog(scene: Scene) -> None:
    """Source outage: the server of the lake's catalog is killed; builds and reports fail, and sales continue."""
    states = scene.system.worker_states()
    scene.system.kill_server(CONTROL_SERVER)
    scene.breaks()
    probes.trade(scene)
    probes.outage_is_reported(
        scene, lambda status: {**copy_states(status, WAREHOUSE), **copy_states(status, LAKE)}, pod_states
    )
    probes.is_refused_in_words(scene, "a report", lambda: ask_report(scene.system))
    probes.is_refused_in_words(scene, "a build", scene.system.build)
    scene.system.start_server(CONTROL_SERVER)
    probes.comes_back(scene, states)
    scene.prove()


# The views


def replay_view(scene: Scene) -> None:
    """Replay: a view is emptied after the log was trimmed, and rebuilt from the lake."""
    for pod in scene.pods:
        await_sale(scene, scene.trader.sell(pod))
        with scene.store.log() as log:
            trim_log(log, pod)
    scene.breaks()
    wiping.WIPES[scene.drill.copy.kind](scene)
    probes.trade(scene)
    decisions.was_rebuilt(scene, scene.system.run(["rebuild", scene.drill.copy.name, "--json"]))
    scene.await_running()
    scene.prove()


def read_stale_view(scene: Scene) -> None:
    """Stale read: a view lacks the newest events of a sale; OLTP refuses wrong decisions based on the view."""
    decide = drilled(scene.drill.copy).decide(scene)
    sales = [scene.trader.sell(pod) for pod in scene.pods]
    before = {sale.pod: await_sale(scene, sale) for sale in sales}
    scene.stop_copy()
    for sale in sales:
        wrong = decide(sale)
        serves_what_it_has(scene, sale, before[sale.pod])
        says_its_age(scene, sale)
        decisions.refuses(scene, sale.pod, wrong)
    scene.start_copy()
    scene.prove()


PLAYS: Mapping[tuple[CopyKind, DrillTest], Play] = {
    (CopyKind.LOG, DrillTest.REPLAY): replay_log,
    (CopyKind.LOG, DrillTest.LAG): fall_behind,
    (CopyKind.LOG, DrillTest.STALE_READ): read_stale_log,
    (CopyKind.LOG, DrillTest.SOURCE_OUTAGE): lose_pod,
    (CopyKind.LAKE, DrillTest.REPLAY): replay_lake,
    (CopyKind.LAKE, DrillTest.LAG): fall_behind,
    (CopyKind.LAKE, DrillTest.STALE_READ): read_stale_lake,
    (CopyKind.LAKE, DrillTest.SOURCE_OUTAGE): lose_log_server,
    (CopyKind.WAREHOUSE, DrillTest.REPLAY): replay_warehouse,
    (CopyKind.WAREHOUSE, DrillTest.LAG): fall_behind,
    (CopyKind.WAREHOUSE, DrillTest.STALE_READ): read_stale_reports,
    (CopyKind.WAREHOUSE, DrillTest.SOURCE_OUTAGE): lose_lake_catalog,
    (CopyKind.READ_MODEL, DrillTest.REPLAY): replay_view,
    (CopyKind.READ_MODEL, DrillTest.LAG): fall_behind,
    (CopyKind.READ_MODEL, DrillTest.STALE_READ): read_stale_view,
    (CopyKind.READ_MODEL, DrillTest.SOURCE_OUTAGE): lose_log_server,
    (CopyKind.SEARCH, DrillTest.REPLAY): replay_view,
    (CopyKind.SEARCH, DrillTest.LAG): fall_behind,
    (CopyKind.SEARCH, DrillTest.STALE_READ): read_stale_view,
    (CopyKind.SEARCH, DrillTest.SOURCE_OUTAGE): lose_log_server,
    (CopyKind.CACHE, DrillTest.REPLAY): answer_cache.replay,
    (CopyKind.CACHE, DrillTest.LAG): fall_behind,
    (CopyKind.CACHE, DrillTest.STALE_READ): answer_cache.read_stale,
    (CopyKind.CACHE, DrillTest.SOURCE_OUTAGE): answer_cache.lose_server,
    (CopyKind.WEBHOOKS, DrillTest.REPLAY): webhooks.replay,
    (CopyKind.WEBHOOKS, DrillTest.LAG): webhooks.fall_behind,
    (CopyKind.WEBHOOKS, DrillTest.STALE_READ): webhooks.read_stale,
    (CopyKind.WEBHOOKS, DrillTest.SOURCE_OUTAGE): webhooks.lose_server,
    (CopyKind.CART, DrillTest.REPLAY): cart.replay,
    (CopyKind.CART, DrillTest.LAG): cart.fall_behind,
    (CopyKind.CART, DrillTest.STALE_READ): cart.read_stale,
    (CopyKind.CART, DrillTest.SOURCE_OUTAGE): cart.lose_server,
}


def play_of(drill: Drill) -> Play:
    """Return the function that runs a cell."""
    return PLAYS[drill.copy.kind, drill.test]
