"""Whether every server answers: we query each PostgreSQL, the log and the cache with the DSNs and URLs of the settings.

Belongs here: the queries, and which stores one server holds. Does not belong here: what an answer means
(`stack/looking/verdict.py`), who is told (`stack/upkeep/watching.py`), starting a server again
(`stack/upkeep/lifecycle.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from contracts.errors import LogUnavailableError
from contracts.ownership import ANSWER_CACHE, LAKE, READ_MODELS
from contracts.ownership import LOG as LOG_COPY
from contracts.settings import Settings

ANSWER_SECONDS = 5
RUNNING, PARTLY, DOWN, FULL = "running", "partly", "down", "full"
LOG_IS_FULL = "its memory is full: it takes no entries"
LOG, LOG_SERVER, CARTS, CACHE = "log", "valkey", "carts", "cache"
WITHOUT_POD = "Nobody can order, pay or be refunded at the merchants of {pod}; every other pod goes on."
WITHOUT_CONTROL = (
    "Selling and serving go on. No new merchant is placed, nothing is compared or repaired, no month closes, and of "
    "incidents nobody hears until it answers."
)
WITHOUT_CARTS = (
    "Carts are served from their pods, more slowly; shoppers must sign in again. Orders, payments and refunds go on."
)
WITHOUT_DAGSTER = "Selling, serving and the copies go on; Dagster's pages, schedules and runs do not."


@dataclass(frozen=True, kw_only=True)
class Store:
    """A database, a log or a cache, and a function that queries it."""

    name: str
    kind: str
    address: str
    """Host and port; stores with the same address are on one server."""
    when_down: str
    """What users still have without this store, and what they lack."""
    ask: Callable[[], str]
    """Returns why the store does not work, or an empty text; raises when it does not answer."""


@dataclass(frozen=True, kw_only=True)
class ServerSeen:
    """One server: its stores, and whether it answers."""

    name: str
    """The name of its first store: a pod, `control`, `valkey`."""
    kind: str
    address: str
    holds: tuple[str, ...]
    state: str
    """running, partly (one of its databases does not answer), full (the log takes no entries), or down."""
    reason: str = ""
    """Why the state is not `running`; without passwords."""
    silent: tuple[str, ...] = ()
    """Those of its stores that do not answer."""
    when_down: tuple[str, ...] = ()
    """What users still have while these stores do not answer, a sentence each."""
    restarts: int = 0
    """How often it was restarted since Tieout was started here; 0 for servers that are not Tieout's own."""

    @property
    def sentence(self) -> str:
        """What is wrong with the server, for people."""
        held = "" if self.holds == (self.name,) else f" ({', '.join(self.holds)})"
        named = f"{self.kind} {self.name}{held} at {self.address}"
        if self.state == FULL:
            return f"{named}: {self.reason}"
        if self.state == PARTLY:
            return f"{named} answers, but not for {', '.join(self.silent)}: {self.reason}"
        return f"{named} does not answer: {self.reason}"


def stores_of(settings: Settings) -> list[Store]:
    """Return every store that these settings name, without those that are withheld from this process."""
    postgres = [(pod.pod, pod.reader_dsn, WITHOUT_POD.format(pod=pod.pod)) for pod in settings.pods]
    postgres += [
        ("control", settings.control_dsn, WITHOUT_CONTROL),
        ("lake catalog", settings.catalog_dsn, LAKE.when_down),
        ("views", settings.read_models_dsn, " ".join(copy.when_down for copy in READ_MODELS)),
        ("Dagster's history", settings.dagster_dsn, WITHOUT_DAGSTER),
    ]
    stores = [
        Store(
            name=name,
            kind="PostgreSQL",
            address=address,
            when_down=when_down,
            ask=partial(_ask_postgres, dsn),
        )
        for name, dsn, when_down in postgres
        if (address := _address_of(dsn, 5432))
    ]
    valkeys = [
        (LOG_SERVER, settings.log_url, LOG_COPY.when_down, _ask_log),
        (CARTS, settings.carts_url, WITHOUT_CARTS, _ask_carts),
        (CACHE, settings.cache_url, ANSWER_CACHE.when_down, _ask_cache),
    ]
    stores += [
        Store(name=name, kind="Valkey", address=address, when_down=when_down, ask=partial(ask, url))
        for name, url, when_down, ask in valkeys
        if (address := _address_of(url, 6379)) and not address.startswith("withheld")
    ]
    return stores


def look(settings: Settings) -> list[ServerSeen]:
    """Query every store of these settings, in parallel; never raises."""
    from stack.scrubbing import scrubber

    scrub = scrubber(settings)
    stores = stores_of(settings)
    with ThreadPoolExecutor(max_workers=max(1, len(stores))) as pool:
        reasons = list(pool.map(lambda store: _asked(store, scrub), stores))
    return by_server(stores, reasons)


def by_server(stores: Sequence[Store], reasons: Sequence[str]) -> list[ServerSeen]:
    """Return the servers of these stores; `reasons` has for each store why it does not work, or an empty text."""
    found: dict[str, list[tuple[Store, str]]] = {}
    for store, reason in zip(stores, reasons, strict=True):
        found.setdefault(store.address, []).append((store, reason))
    return [_server(held) for held in found.values()]


def _server(held: Sequence[tuple[Store, str]]) -> ServerSeen:
    first = held[0][0]
    silent = [(store.name, reason) for store, reason in held if reason]
    state = RUNNING if not silent else DOWN if len(silent) == len(held) else PARTLY
    if silent and silent[0][1] == LOG_IS_FULL:
        state = FULL
    return ServerSeen(
        name=first.name,
        kind=first.kind,
        address=first.address,
        holds=tuple(LOG if store.name == LOG_SERVER else store.name for store, _ in held),
        state=state,
        reason=silent[0][1] if silent else "",
        silent=tuple(name for name, _ in silent),
        when_down=tuple(store.when_down for store, reason in held if reason),
    )


def _asked(store: Store, scrub: Callable[[str], str]) -> str:
    try:
        return store.ask()
    except LogUnavailableError as error:
        return _in_short(scrub(error.reason))
    except Exception as error:  # any error means that the store does not answer
        return _in_short(scrub(str(error) or type(error).__name__))


def _in_short(reason: str) -> str:
    """Return the reason at the end of a driver's message, without the address before it, which the caller knows."""
    for words in ("connection refused", "timeout expired", "connection timeout", "does not exist"):
        if words in reason.lower():
            return words
    return reason.partition(". ")[0].rstrip(".")


def _ask_postgres(dsn: str) -> str:
    import psycopg

    with psycopg.connect(dsn, autocommit=True, connect_timeout=ANSWER_SECONDS) as connection:
        connection.execute("select 1")
    return ""


def _ask_log(url: str) -> str:
    from streams.logs import log_at

    with closing(log_at(url, answer_seconds=ANSWER_SECONDS)) as log:
        return LOG_IS_FULL if log.memory().is_full else ""


def _ask_carts(url: str) -> str:
    from oltp.carts.valkey_server import CartServer

    with closing(CartServer(url, answer_seconds=ANSWER_SECONDS)) as server:
        server.ping()
    return ""


def _ask_cache(url: str) -> str:
    from derived.answer_cache.caches import cache_at

    with closing(cache_at(url, answer_seconds=ANSWER_SECONDS)) as cache:
        cache.ping()
    return ""


def _address_of(dsn: str, port: int) -> str:
    """Return host and port of a server; empty for a DSN without a host, which is withheld from this process."""
    if "://" not in dsn:
        return ""
    parts = urlsplit(dsn)
    return f"{parts.hostname}:{parts.port or port}" if parts.hostname else ""
