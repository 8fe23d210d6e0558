"""Which aggregates have a defect, and from which cut to which: their events are judged in the order of versions.

A scope is judged as one and left out as one: an order with its payments and refunds, any other aggregate alone. Pure.

Belongs here: judging an event against the previous one, and when a scope is believed again. Does not belong here:
judging one payload (`derived/defects.py`), reading events and storing records (`derived/leaving_out.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from contracts.money import CURRENCY_EXPONENTS, format_minor
from contracts.text import visible
from derived.defects import Defect
from derived.unexplained import is_unexplained

OF_AN_ORDER = ("order", "payment", "refund")
"""Aggregate types that are left out together with their order."""
RESTATED = "_restated"
"""Ending of event types that state a whole aggregate again: a person requested it; earlier versions may be missing."""
FOR_GOOD = frozenset({Defect.GAP, Defect.UNREADABLE, Defect.OTHER_AGGREGATE, Defect.TWICE, Defect.SLIPPED})
"""After these defects something unknown happened: only an event that states the whole aggregate again ends them."""

NAMED_MAX = 5

Scope = tuple[str, str]
"""What is left out: (``order``, order_id) with its payments and refunds, or one (aggregate type, aggregate id)."""


@dataclass(frozen=True, kw_only=True)
class Omission:
    """A scope that is left out, and the first defect that caused it."""

    pod: str
    merchant_id: str
    aggregate_type: str
    aggregate_id: str
    version: int
    """Version of the event with the defect."""
    defect: str
    """The name of a `Defect`."""
    scope_type: str
    scope_id: str
    currency: str | None
    amounts: Mapping[str, int]
    """Column of the daily report -> minor units, from the newest readable events of the scope."""
    from_cut: int
    """The scope is shown as of the cut before this one."""
    until_cut: int | None
    """The cut at which the scope is included again; None: it is still left out."""

    @property
    def scope(self) -> Scope:
        """What is left out."""
        return self.scope_type, self.scope_id

    @property
    def aggregate_key(self) -> str:
        """Key of the aggregate with the defect."""
        return f"{self.merchant_id}/{self.aggregate_type}/{self.aggregate_id}"

    @property
    def reason(self) -> str:
        """What is wrong, from which cut on, and whether its order is left out with it."""
        with_it = "; its order is left out with it" if self.scope_type == "order" != self.aggregate_type else ""
        return (
            f"version {self.version}: {Defect[self.defect].value}{with_it}, from cut {self.from_cut} of {self.pod} on"
        )

    @property
    def money(self) -> str:
        """The amounts in words, e.g. ``placed 12.00 GBP``; empty if there are none."""
        if not self.amounts or self.currency not in CURRENCY_EXPONENTS:
            return ""
        parts = (f"{name.removesuffix('_minor')} {format_minor(value, self.currency)}" for name, value in self.shown)
        return f"{', '.join(parts)} {self.currency}"

    @property
    def shown(self) -> list[tuple[str, int]]:
        """The amounts that are not 0."""
        return [(name, value) for name, value in self.amounts.items() if value]

    @property
    def sentence(self) -> str:
        """Aggregate, reason and amounts in one sentence, for people."""
        return f"{visible(self.aggregate_key)} ({self.reason}{'; ' if self.shown else ''}{self.money})"


def in_words(sentences: Sequence[str]) -> str:
    """Return the first few sentences joined into one, for people; empty if nothing is left out."""
    if not sentences:
        return ""
    more = f"; and {len(sentences) - NAMED_MAX:,} more" if len(sentences) > NAMED_MAX else ""
    first = "; ".join(sentences[:NAMED_MAX])
    return f"Finance leaves out {len(sentences):,}, because defective in themselves: {first}{more}."


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event after it was judged alone: a row of `derived.defects.judged`."""

    cut: int
    event_id: str
    event_type: str
    merchant_id: str
    aggregate_type: str
    aggregate_id: str
    version: int
    position: int
    """Position in the pod's outbox: it orders two events of one cut; their ids do not."""
    defect: str | None
    order_id: str | None
    payment_id: str | None
    currency: str | None
    amounts: Mapping[str, int] = field(default_factory=dict)
    taxed: Sequence[str] = ()
    """Where tax is booked; `derived.defects.Rules` describes the texts."""
    constant: int | None = None
    parts: Sequence[int] | None = None
    """A hash of the amounts that no later event may change, and hashes of those that only some may change
    (`derived/unexplained.py`)."""

    @property
    def aggregate(self) -> Scope:
        """The aggregate that it is of."""
        return self.aggregate_type, self.aggregate_id

    @property
    def is_restated(self) -> bool:
        """Whether the event states the whole aggregate again, whatever came before."""
        return self.event_type.endswith(RESTATED)


@dataclass(frozen=True, kw_only=True)
class Before:
    """An aggregate's state in the stored histories, before the events that are judged."""

    version: int = 0
    merchant_id: str | None = None
    currency: str | None = None
    order_id: str | None = None
    payment_id: str | None = None
    amounts: Mapping[str, int] = field(default_factory=dict)
    taxed: Sequence[str] = ()
    constant: int | None = None
    parts: Sequence[int] | None = None


NEW = Before()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The defects of a scope, and their cuts."""

    left_out: tuple[Omission, ...]
    """Ordered by cut, without overlaps."""
    bad: frozenset[tuple[int, str]]
    """(cut, event id) of events that no model may ever use."""


@dataclass(frozen=True, kw_only=True)
class _Interval:
    """Cuts in which one member of a scope is not believed, and the event that started it."""

    event: Event
    defect: Defect
    until_cut: int | None = None


def judge(pod: str, scope: Scope, events: Sequence[Event], before: Mapping[Scope, Before]) -> Judgement:
    """Judge all events of a scope after some cut; `before` is the state of its aggregates at that cut."""
    events = sorted(events, key=_arrival)
    of: defaultdict[Scope, list[Event]] = defaultdict(list)
    for event in events:
        of[event.aggregate].append(event)
    bad: set[tuple[int, str]] = set()
    intervals = [
        found for aggregate, mine in of.items() for found in _of_aggregate(mine, before.get(aggregate, NEW), bad)
    ]
    good = [event for event in events if (event.cut, event.event_id) not in bad]
    intervals += _of_refunds(good, before)
    money, currency = _money(scope, good, before), _currency(good, before)
    records = tuple(_record(pod, scope, one, money, currency) for one in _merged(intervals))
    return Judgement(left_out=records, bad=frozenset(bad))


def _arrival(event: Event) -> tuple[int, int, str]:
    return event.cut, event.position, event.event_id


def _in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda one: (one.version, *_arrival(one)))


@dataclass(kw_only=True)
class _Course:
    """The state while an aggregate's versions are followed in order, from the last believed version on."""

    last: Before
    first: _Interval | None = None
    """The first defect."""
    is_standing: bool = False
    is_for_good: bool = False
    bad: set[tuple[int, str]] = field(default_factory=set)

    def follow(self, event: Event) -> None:
        """Judge the next version against the previous one."""
        wrong = Defect[event.defect] if event.defect else _beside(event, self.last)
        # An event that is wrong in itself may also come after a missing version.
        defect = wrong or (Defect.GAP if event.version != self.last.version + 1 else None)
        is_gap = event.version > self.last.version + 1
        is_repeated = event.version <= self.last.version
        if defect is not None:
            self.first = self.first or _Interval(event=event, defect=defect)
            self.is_standing = True
            self.is_for_good = self.is_for_good or is_gap or defect in FOR_GOOD
        self.last = replace(self.last, version=max(self.last.version, event.version))
        if wrong is not None:
            self.bad.add((event.cut, event.event_id))
            if is_repeated or wrong is not Defect.UNEXPLAINED:
                # The bad event may also have captured or cancelled something, so the parts are not known any more.
                self.last = replace(self.last, parts=None)
            return
        self.last = believed(event)
        if event.is_restated or not self.is_for_good:
            self.is_standing, self.is_for_good = False, False


def believed(event: Event) -> Before:
    """Return the state after a good version; the next version is judged against it."""
    return Before(
        version=event.version,
        merchant_id=event.merchant_id,
        currency=event.currency,
        order_id=event.order_id,
        payment_id=event.payment_id,
        taxed=event.taxed,
        constant=event.constant,
        parts=event.parts,
    )


def _of_aggregate(events: Sequence[Event], before: Before, bad: set[tuple[int, str]]) -> Iterator[_Interval]:
    """Yield the intervals in which an aggregate is not believed, as builds at each cut would find them.

    `events` are given in order of arrival. While the aggregate is not believed, its versions are collected, because a
    missing version may arrive later; then all of them are followed again in order. Once the aggregate is believed, a
    version that arrives late counts as coming after the last one, whatever its number is. Therefore the result does not
    depend on how many cuts a build adds. Adds bad events to `bad`.
    """
    waiting: list[Event] = []
    began: _Interval | None = None
    course = _Course(last=before)
    for cut, found in groupby(events, key=lambda one: one.cut):
        come = _in_order(found)
        waiting += come
        if course.is_standing and come[0].version <= course.last.version:
            course, come = _Course(last=before), _in_order(waiting)
        for event in come:
            course.follow(event)
        began = began or course.first
        if not course.is_standing:
            bad |= course.bad
            if began is not None:
                yield replace(began, until_cut=cut)
            before, waiting, began = course.last, [], None
            course = _Course(last=before)
    bad |= course.bad
    if began is not None:
        yield began


def _beside(event: Event, last: Before) -> Defect | None:
    """Return the defect of an event compared with the previous one; None if there is none."""
    if event.version <= last.version:
        return Defect.TWICE
    if last.merchant_id is not None and event.merchant_id != last.merchant_id:
        return Defect.OTHER_AGGREGATE
    if last.currency is not None and event.currency != last.currency:
        return Defect.OTHER_CURRENCY
    if event.aggregate_type in OF_AN_ORDER and _is_moved(event, last):
        return Defect.OTHER_ORDER
    if set(last.taxed) - set(event.taxed):
        return Defect.LACKING
    was, now = (last.constant, last.parts), (event.constant, event.parts)
    return Defect.UNEXPLAINED if not event.is_restated and is_unexplained(event.event_type, was, now) else None


def _is_moved(event: Event, last: Before) -> bool:
    """Return whether a payment or refund names another order or payment than before."""
    pairs = ((last.order_id, event.order_id), (last.payment_id, event.payment_id))
    return any(before is not None and now != before for before, now in pairs)


def _of_refunds(events: Sequence[Event], before: Mapping[Scope, Before]) -> Iterator[_Interval]:
    """Yield the intervals in which a payment's refunds do not add up to its refunded amount.

    Both are written in one transaction, so they must agree at every cut.
    """
    changes = sorted(_given_back(events, before), key=lambda one: (one[0], one[1].cut))
    difference, standing, of = 0, None, None
    for index, (payment, event, amount) in enumerate(changes):
        if payment != of:
            if standing is not None:
                yield standing
            difference, standing, of = 0, None, payment
        difference += amount
        following = changes[index + 1] if index + 1 < len(changes) else None
        if following is not None and (following[0], following[1].cut) == (payment, event.cut):
            continue
        if difference and standing is None:
            standing = _Interval(event=event, defect=Defect.REFUNDS)
        elif not difference and standing is not None:
            yield replace(standing, until_cut=event.cut)
            standing = None
    if standing is not None:
        yield standing


def _given_back(
    events: Sequence[Event], before: Mapping[Scope, Before]
) -> Iterator[tuple[tuple[str, ...], Event, int]]:
    """Yield by how much each event changes a payment's refunded amount, minus the change of its refunds.

    Yields ((payment, order, merchant, currency), event, minor units). A refund with another order, merchant or currency
    than its payment has another key, so it cannot balance the payment.
    """
    last = {aggregate: one.amounts.get("refunded_minor", 0) for aggregate, one in before.items()}
    for event in sorted(events, key=lambda one: one.version):
        if event.aggregate_type not in ("payment", "refund"):
            continue
        amount = event.amounts.get("refunded_minor", 0)
        change = amount - last.get(event.aggregate, 0)
        last[event.aggregate] = amount
        is_payment = event.aggregate_type == "payment"
        payment_id = event.aggregate_id if is_payment else event.payment_id
        if payment_id is not None:
            key = (payment_id, event.order_id or "", event.merchant_id, event.currency or "")
            yield key, event, change if is_payment else -change


def _money(scope: Scope, events: Sequence[Event], before: Mapping[Scope, Before]) -> dict[str, int]:
    """Return the sums of the scope's newest readable states; a payment's refunded amount stands for its refunds."""
    newest = {aggregate: one.amounts for aggregate, one in before.items()}
    newest |= {event.aggregate: event.amounts for event in sorted(events, key=lambda one: one.version)}
    sums: defaultdict[str, int] = defaultdict(int)
    for (aggregate_type, _), amounts in newest.items():
        if aggregate_type != "refund" or scope[0] == "refund":
            for name, value in amounts.items():
                sums[name] += value
    return dict(sums)


def _currency(events: Sequence[Event], before: Mapping[Scope, Before]) -> str | None:
    known = [*(one.currency for one in before.values()), *(event.currency for event in events)]
    return next((one for one in known if one is not None), None)


def _merged(intervals: Iterable[_Interval]) -> Iterator[_Interval]:
    """Yield when a scope is left out: overlapping intervals are merged, each with its first defect."""
    standing: _Interval | None = None
    for one in sorted(intervals, key=lambda found: _arrival(found.event)):
        if standing is None:
            standing = one
        elif standing.until_cut is None or one.event.cut <= standing.until_cut:
            is_open = standing.until_cut is None or one.until_cut is None
            until = None if is_open else max(standing.until_cut or 0, one.until_cut or 0)
            standing = replace(standing, until_cut=until)
        else:
            yield standing
            standing = one
    if standing is not None:
        yield standing


def _record(pod: str, scope: Scope, found: _Interval, money: Mapping[str, int], currency: str | None) -> Omission:
    event = found.event
    return Omission(
        pod=pod,
        merchant_id=event.merchant_id,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        defect=found.defect.name,
        scope_type=scope[0],
        scope_id=scope[1],
        currency=currency or event.currency,
        amounts=dict(money),
        from_cut=event.cut,
        until_cut=found.until_cut,
    )
