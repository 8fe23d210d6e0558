"""How much of each limit is used: disks, memory, scratch space, connections, waiting events and carts.

Belongs here: measuring. Does not belong here: when people are told (`repair/alerts/near_limits.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

from contracts.clock import utc_now
from contracts.errors import TieoutError
from contracts.memory import memory_mb
from contracts.object_store import is_object_path
from contracts.settings import PodSettings, Settings
from repair.alerts.near_limits import LimitUse

MEGABYTE = 1_000_000
ROOMY_DISK = 50_000
"""Free MB on a disk from which we send no alert: enough for some hours of heavy trade, or for the scratch space's
default limit."""
COMPARED_WITHIN = timedelta(days=1)
"""We take the largest comparison of this time, also when later comparisons were smaller."""
CARTS_WAIT_SECONDS = 60.0
"""A cart that waits longer has not been written through when a pod was away for a moment only."""
CONNECT_SECONDS = 5
ANSWER_SECONDS = 5.0

# We sum numbackends of pg_stat_database, which every role may read: pg_stat_activity hides most columns of other roles'
# sessions.
CONNECTIONS = """
select (select sum(numbackends)::int from pg_stat_database),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int
"""


def limit_uses(settings: Settings) -> list[LimitUse]:
    """Return the limits that can be measured from here, without servers that do not answer.

    Other checks report those servers.
    """
    asked: list[Callable[[], Iterator[LimitUse]]] = [
        lambda: _disks(settings),
        lambda: _scratch(settings),
        lambda: iter([log_memory(settings)]),
        lambda: _comparison_memory(settings),
        lambda: _build_memory(settings),
        lambda: _connections(settings),
        *(lambda pod=pod: _outbox(settings, pod) for pod in settings.pods),
        lambda: _carts(settings),
    ]
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        return [use for uses in pool.map(_answered, asked) for use in uses]


def _answered(ask: Callable[[], Iterator[LimitUse]]) -> list[LimitUse]:
    import psycopg

    found: list[LimitUse] = []
    with suppress(OSError, TieoutError, psycopg.Error):
        found.extend(ask())
    return found


def _disks(settings: Settings) -> Iterator[LimitUse]:
    """Yield the disks of the runtime files, the lake and its backup, each disk once. An object store has no disk."""
    lake_paths = (settings.lake_data_path, settings.lake_backup_path)
    local = [Path(str(path)) for path in lake_paths if not is_object_path(path)]
    by_device: dict[int, LimitUse] = {}
    for path in (settings.var_dir, *local):
        with suppress(OSError):
            usage = shutil.disk_usage(path)
            by_device.setdefault(
                path.stat().st_dev,
                LimitUse(
                    name=f"disk of {path}",
                    # Space that is reserved for root is not free for us.
                    used=(usage.total - usage.free) / MEGABYTE,
                    limit=usage.total / MEGABYTE,
                    advice="Make room there: a full disk stops commits.",
                    enough_left=ROOMY_DISK,
                ),
            )
    yield from by_device.values()


def _scratch(settings: Settings) -> Iterator[LimitUse]:
    used = 0
    for path in settings.scratch_dir.rglob("*"):
        with suppress(OSError):  # a comparison that ends removes its files
            used += path.stat().st_size
    yield LimitUse(
        name="scratch space of comparisons",
        used=used / MEGABYTE,
        limit=settings.scratch_disk_mb,
        advice="Raise TIEOUT_SCRATCH_DISK_MB, or look at less at once.",
    )


def log_memory(settings: Settings) -> LimitUse:
    """Return the memory use of the log's server, against its limit or, without a limit, its machine's memory."""
    from streams.logs import build_log

    with closing(build_log(settings, answer_seconds=ANSWER_SECONDS)) as log:
        memory = log.memory()
    return LimitUse(
        name="memory of the log's server",
        used=memory.used_bytes / MEGABYTE,
        limit=(memory.limit_bytes or memory.machine_bytes) / MEGABYTE,
        advice="See which copy is behind: entries go when every copy has applied them. Or raise maxmemory.",
    )


def _comparison_memory(settings: Settings) -> Iterator[LimitUse]:
    """Yield the memory use of the last day's comparisons: of the machine, and of the setting if it was barely enough.

    The used share of the setting is no measure, because data that does not fit is spilled to disk. So we report the
    setting only for comparisons that fitted with one thread only.
    """
    from reconcile.results import memory_since

    found = memory_since(settings.control_dsn, utc_now() - COMPARED_WITHIN)
    if found.peak_mb is not None:
        yield LimitUse(
            name="memory of the machine, for the largest comparison of the last day",
            used=found.peak_mb,
            limit=memory_mb(),
            advice="Lower TIEOUT_COMPARISON_MEMORY_MB, or give the machine more.",
        )
    if found.short:
        yield LimitUse(
            name="memory setting of comparisons",
            used=settings.comparison_memory_mb,
            limit=settings.comparison_memory_mb,
            advice=f"{', '.join(found.short)} fitted with one thread only: raise TIEOUT_COMPARISON_MEMORY_MB.",
        )


def _build_memory(settings: Settings) -> Iterator[LimitUse]:
    from derived.build_peaks import build_memory

    if (found := build_memory(settings, utc_now())) is not None:
        yield LimitUse(
            name="memory of the machine, for the largest build of the last day",
            used=found.peak_mb,
            limit=memory_mb(),
            advice="Lower TIEOUT_WAREHOUSE_MEMORY_MB, or give the machine more.",
        )


def _outbox(settings: Settings, pod: PodSettings) -> Iterator[LimitUse]:
    """Yield the number of events that wait to be published; until then they are only on the pod's disk."""
    from streams.logs import build_log
    from streams.outbox_reading import QUEUED_EVENTS_MAX, observe_outbox

    with closing(build_log(settings)) as log:
        published = log.tail(pod.pod, settings.partition_count).own_cut
    waiting = observe_outbox(pod.reader_dsn, published, counted_max=QUEUED_EVENTS_MAX).unpublished_events
    yield LimitUse(
        name=f"outbox of {pod.pod}",
        used=waiting,
        limit=QUEUED_EVENTS_MAX,
        unit="events",
        advice="See whether its relay runs and the log takes entries: until then only the pod has them.",
    )


def _carts(settings: Settings) -> Iterator[LimitUse]:
    """Yield how many carts wait for each pod, and for how long; until then only Valkey has what changed in them."""
    from oltp.carts.valkey_carts import ValkeyCarts
    from oltp.carts.valkey_server import CartServer

    if not settings.carts_url:
        return
    with closing(CartServer(settings.carts_url)) as server:
        valkey = ValkeyCarts(server, queued_max=settings.carts_queued_max)
        for pod in settings.pods:
            number, seconds = valkey.waiting(pod.pod)
            yield LimitUse(
                name=f"carts that wait for {pod.pod}",
                used=number,
                limit=settings.carts_queued_max,
                unit="carts",
                advice="See whether the worker `cart-writer` runs and the pod answers (docs/runbooks/carts.md).",
            )
            yield LimitUse(
                name=f"write-through of carts to {pod.pod}",
                used=seconds,
                limit=CARTS_WAIT_SECONDS,
                unit="seconds",
                advice="See whether the worker `cart-writer` runs and the pod answers (docs/runbooks/carts.md).",
            )


def _connections(settings: Settings) -> Iterator[LimitUse]:
    """Yield the used connections of every PostgreSQL server, against the number that ordinary roles may use."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    others = (settings.control_dsn, settings.catalog_dsn, settings.read_models_dsn, settings.dagster_dsn)
    by_server: dict[str, str] = {}
    for dsn in (*(pod.reader_dsn for pod in settings.pods), *others):
        with suppress(psycopg.Error):
            parts = conninfo_to_dict(dsn)
            # A DSN that is withheld from this process has no host.
            if parts.get("host"):
                by_server.setdefault(f"{parts['host']}:{parts.get('port') or 5432}", dsn)
    for server, dsn in by_server.items():
        with suppress(psycopg.Error), psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as asked:
            row = asked.execute(CONNECTIONS).fetchone()
            assert row is not None
            yield LimitUse(
                name=f"connections of PostgreSQL at {server}",
                used=row[0],
                limit=row[1],
                unit="connections",
                advice="See who holds them (pg_stat_activity). Or raise max_connections.",
            )
