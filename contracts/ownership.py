"""The contract: which copies of the facts (`contracts/facts.py`) exist, how far each may lag, and how it is rebuilt.

Belongs here: the declaration, as values. All code that handles every copy in the same way loops over it: assets, gauges
and checks, projections and workers, status, repairs, drills, commands, `docs/contract.md`. Does not belong here: what
is specific to one copy. That is in modules with the copy's name: how it is built (`derived/`, `dbt_project/`), what it
must hold (`reconcile/copies/`), how a drill reads it (`drills/copies/`). A test checks that no other module names a
read model.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from contracts.errors import InputError

if TYPE_CHECKING:
    from contracts.settings import Settings


class Lateness(StrEnum):
    """How the contract classifies a lag."""

    FRESH = "fresh"
    LATE = "late"
    """The lag exceeds the freshness target, but not the largest allowed lag; nobody has to act."""
    OVERDUE = "overdue"
    """The lag exceeds the largest allowed lag: people are alerted."""


class CopyKind(StrEnum):
    """The kind of a copy. Copies of one kind are built, repaired and drilled in the same way."""

    LOG = "log"
    LAKE = "lake"
    WAREHOUSE = "warehouse"
    READ_MODEL = "read model"
    """Tables in PostgreSQL that pages are served from."""
    SEARCH = "search index"
    """Documents in an index that shoppers search."""
    CACHE = "cache"
    """Answers that are put together from OLTP when they are asked for, and kept until an event touches them. Not built
    and not rebuilt: a wrong one is dropped, and an empty cache is right."""
    CART = "cart"
    """What visitors have picked: an owner of its own kind, with two stores that are merged, each of the other."""
    WEBHOOKS = "webhooks"
    """Notes of what merchants' own systems must be told, and were. What was told cannot be taken back; so what is lost
    is told again, with the same id."""


STEP_EVENTS_MAX = 50_000
"""The most events that a consumer applies at once, unless its copy declares another number."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A store that holds copies of facts."""

    name: str
    """The name under which `tieout status`, Dagster and the comparisons know it."""
    kind: CopyKind
    store: str
    description: str
    """The purpose of the copy, one sentence; Dagster shows it."""
    asset: tuple[str, str]
    """Its asset key in Dagster; the first part is also its asset group."""
    shown_as: tuple[str, ...]
    """The kinds of store that Dagster's pages show beside it."""
    built_by: str
    """Path of the code that builds it."""
    found_by: tuple[str, ...]
    """The comparisons, or families of comparisons, that find its errors; after a drill all must find it equal."""
    freshness_seconds: int
    """The freshness target: the oldest event that the copy has not applied must be younger than this."""
    late_seconds_max: int
    """Up to this lag the copy is late, not wrong; beyond it people are alerted."""
    rebuilt_by: str
    when_down: str
    """What users still get, and what they do not."""
    runbook: str
    """File below docs/."""
    tables: tuple[str, ...] = ()
    """Of a read model: its tables in schema `read_models`."""
    sums: tuple[str, ...] = ()
    """Those of `tables` whose rows are sums over rows of the other tables."""
    stale_decision: str = ""
    """Of a read model or search: a wrong decision that somebody makes who trusts its stale rows. A drill makes it."""
    commit_seconds: float = 0.0
    """The least time between two commits while events arrive: a commit of some stores takes long."""
    step_events_max: int = STEP_EVENTS_MAX
    """The most events that its consumer applies at once; fewer where the store answers nobody meanwhile."""
    begins_at_end: bool = False
    """It begins at the log's end, since nothing before concerns it: an empty cache lacks nothing, nor does an endpoint
    that nobody has registered yet."""
    setting: str = ""
    """The setting with the address of a server of its own. A system that has no such server has no such copy."""

    @property
    def module(self) -> str:
        """The module that builds it."""
        return self.built_by.removesuffix(".py").replace("/", ".")

    def lateness(self, lag_seconds: float) -> Lateness:
        """Classify a lag: the age in seconds of the oldest event that the copy has not applied."""
        if lag_seconds <= self.freshness_seconds:
            return Lateness.FRESH
        return Lateness.LATE if lag_seconds <= self.late_seconds_max else Lateness.OVERDUE


LOG = Copy(
    name="log",
    kind=CopyKind.LOG,
    store="Valkey streams",
    description="Every event in the order of its aggregate, for all who follow.",
    asset=("propagation", "log"),
    shown_as=("valkey",),
    built_by="streams/relay.py",
    found_by=("outbox_log", "log_positions", "log_manifests"),
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="the relay publishes the cuts again from the outbox, into a new generation of the streams",
    when_down="Commands go on: events wait in the outbox. Copies stay as they are and say how old they are.",
    runbook="runbooks/log.md",
)
LAKE = Copy(
    name="lake",
    kind=CopyKind.LAKE,
    store="DuckLake (Parquet, catalog in PostgreSQL)",
    description="Every event of every pod, once, append-only: the memory that all other copies can be rebuilt from.",
    asset=("lake", "events"),
    shown_as=("ducklake", "parquet"),
    built_by="derived/lake.py",
    commit_seconds=1.0,
    found_by=("oltp_lake", "log_manifests"),
    freshness_seconds=10,
    late_seconds_max=120,
    rebuilt_by="replay of the log from the lake's position; the whole of it, from the outbox, while it is unpruned",
    when_down="Selling goes on. Reports stay as of their last build; nothing is pruned and the log is not trimmed.",
    runbook="runbooks/lake.md",
)
WAREHOUSE = Copy(
    name="warehouse",
    kind=CopyKind.WAREHOUSE,
    store="dbt models on DuckLake",
    description="What finance reads: marts that one build brings to the same cuts. The journal stands for all.",
    asset=("marts", "journal"),
    shown_as=("dbt", "ducklake"),
    built_by="dbt_project/",
    found_by=("operational_finance", "journal_identities", "lake_warehouse"),
    freshness_seconds=900,
    late_seconds_max=3600,
    rebuilt_by="dbt build, incremental by cut; `tieout rebuild warehouse` computes it again from the lake's events",
    when_down="Selling and serving go on. Finance reports stay at the cuts of the last build and say so.",
    runbook="runbooks/warehouse.md",
)
ACCOUNT_VIEW = Copy(
    name="account_view",
    kind=CopyKind.READ_MODEL,
    store="PostgreSQL database read_models",
    description="A customer's orders, payments, refunds and entitlements, as the customer's page shows them.",
    asset=("read_models", "account_view"),
    shown_as=("postgres",),
    built_by="derived/read_models/account_view.py",
    found_by=("lake_account_view",),
    tables=("account_orders", "account_payments", "account_refunds", "account_entitlements"),
    stale_decision="Customers ask for money back that was given back meanwhile.",
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="rebuild(keys) from the lake as of the view's position",
    when_down="Customers cannot see their history; orders, payments and refunds go on against OLTP.",
    runbook="runbooks/read_models.md",
)
FULFILLMENT_VIEW = Copy(
    name="fulfillment_view",
    kind=CopyKind.READ_MODEL,
    store="PostgreSQL database read_models",
    description="What is left to ship, per merchant, and which of it waits for money.",
    asset=("read_models", "fulfillment_view"),
    shown_as=("postgres",),
    built_by="derived/read_models/fulfillment_view.py",
    found_by=("lake_fulfillment_view",),
    tables=(
        "fulfillment_orders",
        "fulfillment_lines",
        "fulfillment_reservations",
        "fulfillment_reservation_lines",
        "fulfillment_payments",
    ),
    stale_decision="The list of what to ship is worked off, though orders were cancelled and shipped meanwhile.",
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="rebuild(keys) from the lake as of the view's position",
    when_down="The list of what to ship is not served; a fulfillment itself is checked against OLTP.",
    runbook="runbooks/read_models.md",
)
MERCHANT_SALES = Copy(
    name="merchant_sales",
    kind=CopyKind.READ_MODEL,
    store="PostgreSQL database read_models",
    description="What each merchant sold, took in and gave back, by day and currency.",
    asset=("read_models", "merchant_sales"),
    shown_as=("postgres",),
    built_by="derived/read_models/merchant_sales.py",
    found_by=("lake_merchant_sales",),
    tables=("sales_orders", "sales_payments", "sales_captures", "sales_refunds", "merchant_sales_days"),
    sums=("merchant_sales_days",),
    stale_decision="Money that looks taken in is given back, though it was given back meanwhile.",
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="rebuild(keys) from the lake as of the view's position; its sums from its own rows",
    when_down="Nobody sees today's sales; orders, payments and refunds go on against OLTP, and finance has its books.",
    runbook="runbooks/read_models.md",
)
SEARCH = Copy(
    name="search",
    kind=CopyKind.SEARCH,
    store="Tantivy, an index per pod and version of its schema",
    description="The products that a merchant's shoppers can find, with their variants and prices.",
    asset=("search", "products"),
    shown_as=("tantivy",),
    built_by="derived/search/projection.py",
    found_by=("lake_search",),
    stale_decision="A product that is still listed is ordered, though it was taken off sale meanwhile.",
    commit_seconds=1.0,
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="rebuild(keys) from the lake as of the index's position; `tieout reindex` builds a new index beside it",
    when_down="Shoppers find nothing by searching; pages of products and orders go on against OLTP.",
    runbook="runbooks/search.md",
)
ANSWER_CACHE = Copy(
    name="answer_cache",
    kind=CopyKind.CACHE,
    store="Valkey",
    description="Answers that are asked for again and again, as a product's page, put together from OLTP.",
    asset=("serving", "answer_cache"),
    shown_as=("valkey",),
    built_by="derived/answer_cache/following.py",
    found_by=("oltp_answer_cache", "lake_floors"),
    stale_decision="A product is ordered at the price that its cached page shows, though it costs more meanwhile.",
    begins_at_end=True,
    setting="cache_url",
    # Its server answers nobody while it applies a step, and its readers wait a quarter of a second at most.
    step_events_max=2_000,
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="nothing: what is wrong is dropped, an empty cache is right and fills itself",
    when_down="Each page is put together from OLTP. When too many are asked for, pages are refused, not checkouts.",
    runbook="runbooks/answer_cache.md",
)
CART = Copy(
    name="cart",
    kind=CopyKind.CART,
    store="Valkey, and within a second the merchant's pod",
    description="What visitors have picked, on all their devices. Two stores hold it, and each repairs the other.",
    asset=("serving", "cart"),
    shown_as=("valkey", "postgres"),
    built_by="oltp/carts/writer.py",
    found_by=("oltp_cart",),
    stale_decision="A cart is checked out at what it showed, though a device has taken something out meanwhile.",
    setting="carts_url",
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="a merge of both stores, which may be repeated; Valkey's lost carts come from the pod when asked for",
    when_down="With either store shoppers have their carts; without Valkey they sign in again. Orders go on.",
    runbook="runbooks/carts.md",
)
WEBHOOKS = Copy(
    name="webhooks",
    kind=CopyKind.WEBHOOKS,
    store="PostgreSQL control database",
    description="Which event each of a merchant's endpoints was told, or must still be told.",
    asset=("serving", "webhooks"),
    shown_as=("postgres",),
    built_by="derived/webhooks/following.py",
    found_by=("lake_webhooks",),
    stale_decision="A merchant's own system ships and refunds what was cancelled and refunded meanwhile.",
    begins_at_end=True,
    step_events_max=2_000,
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="`tieout repair`: notes that are lost are written again from the lake, and told again with the same id",
    when_down="Merchants' systems hear of nothing new. All of it waits in the log and in the lake and is told after.",
    runbook="runbooks/webhooks.md",
)

SWEEP_SECONDS_MAX = 6 * 3600
"""Every key of every pair is compared at least once within this time, even if unchanged; else a check fails."""

COPIES = (LOG, LAKE, WAREHOUSE, ACCOUNT_VIEW, FULFILLMENT_VIEW, MERCHANT_SALES, SEARCH, ANSWER_CACHE, WEBHOOKS, CART)
"""All copies, in the order in which facts reach them; the cart, which has no facts, is the last."""
READ_MODELS = tuple(copy for copy in COPIES if copy.kind is CopyKind.READ_MODEL)
KEYED = (*READ_MODELS, SEARCH)
"""The copies with rows per aggregate, which are rebuilt from the lake, all or by key."""
PROJECTED = (LAKE, *KEYED)
"""The copies that are projections of the log, one consumer per pod."""
FOLLOWERS = (*PROJECTED, ANSWER_CACHE, WEBHOOKS)
"""All copies that follow the log. The cache does so only where there is one."""
SERVED_TABLES = tuple(sorted(table for copy in READ_MODELS for table in copy.tables))
"""The tables of all read models."""

OWNER_FAMILIES = ("stock_identity", "oltp_identities")
"""Comparisons whose two sides are both OLTP. A difference is an error of the owner, so a person decides."""


def copy_named(name: str) -> Copy:
    """Return the copy of that name; InputError lists the known ones."""
    for copy in COPIES:
        if copy.name == name:
            return copy
    raise InputError(f"There is no copy named {name!r}; known copies: {', '.join(copy.name for copy in COPIES)}.")


def absent_copies(settings: Settings) -> frozenset[str]:
    """Return the names of the copies that the system of these settings does not have, as it has no server for them."""
    return frozenset(copy.name for copy in COPIES if copy.setting and not getattr(settings, copy.setting))


def family_of(pair: str) -> str:
    """Return the family of a comparison: its name without the mart or aggregate type that follows the dot."""
    return pair.partition(".")[0]


def mended_with(pair: str) -> Copy | None:
    """Return the copy by whose rules the breaks of a comparison are repaired; None for comparisons of the owner.

    A comparison that finds errors of two copies belongs to the one that facts reach first.
    """
    return next((copy for copy in COPIES if family_of(pair) in copy.found_by), None)
