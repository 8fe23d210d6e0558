"""Which aggregates have a defect, from which cut to which: their events taken in the order of their versions.

What is left out together is judged together: an order with its payments and refunds, any other aggregate alone. Pure.

Belongs here: judging an event beside the one before it, and when a scope is believed again. Does not belong here:
judging one payload (`derived/defects.py`), reading events and keeping records (`derived/leaving_out.py`).
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
"""Types that are left out with their order."""
RESTATED = "_restated"
"""How the event types end that say a whole state again: a person let them, so a version before them may be missing."""
FOR_GOOD = frozenset({Defect.GAP, Defect.UNREADABLE, Defect.OTHER_AGGREGATE, Defect.TWICE, Defect.SLIPPED})
"""Something happened that nobody knows: only an event that states the whole aggregate again is believed."""

NAMED_MAX = 5

Scope = tuple[str, str]
"""What is left out: (``order``, order_id) with payments and refunds, or (aggregate type, aggregate id) alone."""


@dataclass(frozen=True, kw_only=True)
class Omission:
    """A scope that is left out, and the first defect because of which it is."""

    pod: str
    merchant_id: str
    aggregate_type: str
    aggregate_id: str
    version: int
    """Of the event with the defect."""
    defect: str
    """The name of a `Defect`."""
    scope_type: str
    scope_id: str
    currency: str | None
    amounts: Mapping[str, int]
    """Column of the daily report -> minor units: what the newest readable events say of the scope's money."""
    from_cut: int
    """It stands as at the cut before."""
    until_cut: int | None
    """The cut at which it is taken in again; None: it is left out."""

    @property
    def scope(self) -> Scope:
        """What is left out."""
        return self.scope_type, self.scope_id

    @property
    def aggregate_key(self) -> str:
        """The key of the aggregate with the defect."""
        return f"{self.merchant_id}/{self.aggregate_type}/{self.aggregate_id}"

    @property
    def reason(self) -> str:
        """What is wrong, from when on, and how much is left out with it."""
        with_it = "; its order is left out with it" if self.scope_type == "order" != self.aggregate_type else ""
        return (
            f"version {self.version}: {Defect[self.defect].value}{with_it}, from cut {self.from_cut} of {self.pod} on"
        )

    @property
    def money(self) -> str:
        """The amounts in words, e.g. ``placed 12.00 GBP``; empty when it has none."""
        if not self.amounts or self.currency not in CURRENCY_EXPONENTS:
            return ""
        parts = (f"{name.removesuffix('_minor')} {format_minor(value, self.currency)}" for name, value in self.shown)
        return f"{', '.join(parts)} {self.currency}"

    @property
    def shown(self) -> list[tuple[str, int]]:
        """The amounts that are not nothing."""
        return [(name, value) for name, value in self.amounts.items() if value]

    @property
    def sentence(self) -> str:
        """All of it, for a person."""
        return f"{visible(self.aggregate_key)} ({self.reason}{'; ' if self.shown else ''}{self.money})"


def in_words(sentences: Sequence[str]) -> str:
    """Return the sentences of the first few, for a person; empty when nothing is left out."""
    if not sentences:
        return ""
    more = f"; and {len(sentences) - NAMED_MAX:,} more" if len(sentences) > NAMED_MAX else ""
    first = "; ".join(sentences[:NAMED_MAX])
    return f"Finance leaves out {len(sentences):,}, because defective in themselves: {first}{more}."


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event as it was judged by itself: what `derived.defects.judged` delivers."""

    cut: int
    event_id: str
    event_type: str
    merchant_id: str
    aggregate_type: str
    aggregate_id: str
    version: int
    position: int
    """In the pod's outbox: which of two events of one cut is the earlier; their ids say it only by chance."""
    defect: str | None
    order_id: str | None
    payment_id: str | None
    currency: str | None
    amounts: Mapping[str, int] = field(default_factory=dict)
    taxed: Sequence[str] = ()
    """What tax is booked on: `derived.defects.Rules` says how it is named."""
    constant: int | None = None
    parts: Sequence[int] | None = None
    """What of its money no later event changes, and what only some do: `derived/unexplained.py`."""

    @property
    def aggregate(self) -> Scope:
        """The aggregate that it is of."""
        return self.aggregate_type, self.aggregate_id

    @property
    def is_restated(self) -> bool:
        """Whether it says a whole state again, whatever was before."""
        return self.event_type.endswith(RESTATED)


@dataclass(frozen=True, kw_only=True)
class Before:
    """What the histories have of an aggregate from before the events that are judged."""

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
    """What is wrong in a scope, when."""

    left_out: tuple[Omission, ...]
    """In the order of their cuts, without overlaps."""
    bad: frozenset[tuple[int, str]]
    """Cut and id of events that no model may have, ever."""


@dataclass(frozen=True, kw_only=True)
class _Interval:
    """From which cut to which one member of a scope is not believed, and the event that began it."""

    event: Event
    defect: Defect
    until_cut: int | None = None


def judge(pod: str, scope: Scope, events: Sequence[Event], before: Mapping[Scope, Before]) -> Judgement:
    """Judge all events of a scope after some cut; `before` says what its aggregates were at that cut."""
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
    """How far an aggregate's versions were followed, one after the other, from the last one that was believed."""

    last: Before
    first: _Interval | None = None
    """The first defect."""
    is_standing: bool = False
    is_for_good: bool = False
    bad: set[tuple[int, str]] = field(default_factory=set)

    def follow(self, event: Event) -> None:
        """Judge the next version beside the one before."""
        wrong = Defect[event.defect] if event.defect else _beside(event, self.last)
        # What is wrong in itself may come after a lost version, too.
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
                # It may have captured or cancelled something, whatever else of it is wrong.
                self.last = replace(self.last, parts=None)
            return
        self.last = believed(event)
        if event.is_restated or not self.is_for_good:
            self.is_standing, self.is_for_good = False, False


def believed(event: Event) -> Before:
    """Return what a good version says, as what the next one is judged beside."""
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
    """Yield when an aggregate is not believed, as builds at each cut would find; its events are given as they came.

    While it is not believed, its versions wait: one that was lost may come late, so they are followed once more, in
    their order. Once it is believed, a version that comes late comes after the last one, whatever its number. So what
    comes out does not depend on how many cuts a build adds. Adds to `bad`.
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
    """Return what is wrong with an event beside the one before it."""
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
    """Return whether a payment or refund is of another order or payment than before."""
    pairs = ((last.order_id, event.order_id), (last.payment_id, event.payment_id))
    return any(before is not None and now != before for before, now in pairs)


def _of_refunds(events: Sequence[Event], before: Mapping[Scope, Before]) -> Iterator[_Interval]:
    """Yield when a payment's refunds do not sum to what it says was given back: both are in one commit, so in a cut."""
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
    """Yield by how much each event changes what a payment says was given back, less what its refunds say.

    Payment, order, merchant and currency, the event, minor units: a refund of another order, merchant or currency than
    its payment's agrees with none.
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
    """Return what the newest readable states of the scope's aggregates come to; a payment says what was given back."""
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
    """Yield when a scope is left out: from the first cut of what overlaps to the last; each with its first defect."""
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
