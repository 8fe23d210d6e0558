"""The cache of answers in the register of comparisons: its answers against OLTP, its floors against the lake.

An answer is compared by its key, at the cut that it says it was read at. A floor is the last cut that touched a tag;
floors are compared exactly, with the lake's events up to the cut that the cache has applied. Belongs here: these pairs.
Does not belong here: what an answer must say (`reconcile/cached_answers.py`), dropping (`repair/serving.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import islice

import pyarrow as pa

from contracts.errors import ComparisonError
from contracts.ids import aggregate_key
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass
from reconcile.cached_answers import Finding, GoodAnswer, HeldAnswers, HeldFloors, NamedAnswer, compare_answers
from reconcile.compare import Outcome, compare
from reconcile.context import wait_for
from reconcile.lake_side import PartitionPosition
from reconcile.own_positions import await_lake
from reconcile.pair import Findings, Pair, PodRun, Stage, Sweep
from reconcile.scratch import load, table
from reconcile.shapes import BIGINT, VARCHAR, Column, Shape, names_aggregate

NAME = "answer_cache"
AT_ONCE = 200
SHOWN_MAX = 500
"""So many characters of an answer that differs are kept as evidence."""
ABOUT_PRODUCTS = frozenset({"product_page"})
"""Kinds of answers about one product; the others are about their merchant."""
ANSWERS = Shape(
    name="cached_answers",
    key=("aggregate_type", "aggregate_id", "answer"),
    columns=(Column(name="says", type=VARCHAR),),
    aggregate=names_aggregate,
)
FLOORS = Shape(
    name="answer_floors", key=("tag",), columns=(Column(name="cut", type=BIGINT),), version="cut", merchant=None
)
READY_SECONDS = 15.0
KEPT_SECONDS = 3_600.0
"""No answer is kept so long, so floors of cuts that were registered before do not matter any more."""
LAST_BEFORE = "select coalesce(max(cut), 0)::bigint from lake.raw.cuts where pod = $pod and data_at < $moment"
UNREADY = "The cache follows nothing of {pod}, and serves nothing of it, until its consumer begins anew."

# What each event touches, in SQL of our own; `contracts/assembled.py` says the same to those who build the floors.
TOUCHED = """
with events as (
    select cut, merchant_id, aggregate_type, aggregate_id, payload from lake.raw.events
    where pod = $pod and cut > $above and cut <= $through
        and aggregate_type in ('merchant', 'product', 'stock_movement', 'reservation')
),
touched as (
    select 'merchant:' || merchant_id as tag, cut from events where aggregate_type = 'merchant'
    union all
    select 'product:' || aggregate_id, cut from events where aggregate_type = 'product'
    union all
    select 'catalog:' || merchant_id, cut from events where aggregate_type = 'product'
    union all
    select 'variant:' || json_extract_string(payload, '$.state.variant_id'), cut from events
    where aggregate_type = 'stock_movement'
    union all
    select 'variant:' || unnest(json_extract_string(payload, '$.state.lines[*].variant_id')), cut from events
    where aggregate_type = 'reservation'
)
select tag, max(cut)::bigint as cut from touched group by tag
"""


def aggregate_of(name: NamedAnswer) -> tuple[str, str]:
    """Return type and id of the aggregate that an answer is about."""
    return ("product", name.subject) if name.kind in ABOUT_PRODUCTS else ("merchant", name.merchant_id)


def _held(run: PodRun) -> AbstractContextManager[HeldAnswers]:
    if run.context.answers is None:
        raise ComparisonError("The cache cannot be looked at: this run was given no way to it.")
    return run.context.answers(run.pod)


def _compare_answers(run: PodRun) -> Findings:
    with _held(run) as held:
        stands = _standing(run, held, 0)
        if stands is None:
            return _unready(run)
        covered = (name for name in held.names() if run.scope is None or run.scope.covers(aggregate_of(name)[1]))
        compared, differences = _looked_at(run.context.pods[run.pod], covered, held.good)
    outcome = Outcome(
        compared=compared,
        classes={DifferenceClass.DIFFERENT: len(differences)} if differences else {},
        sample=tuple(differences[: run.context.limits.sample]),
    )
    return Findings(outcomes=[outcome], cut=stands.applied_cut)


def _standing(run: PodRun, held: HeldAnswers, above: int) -> HeldFloors | None:
    """Return the floors above a cut; wait a while for a cache that has lost them, because it begins anew by itself."""
    wait_for(run.context, lambda: held.floors(above) is not None, READY_SECONDS)
    return held.floors(above)


def _looked_at(
    reader_dsn: str, names: Iterable[NamedAnswer], good: Callable[..., Mapping[str, GoodAnswer]]
) -> tuple[int, list[Difference]]:
    """Return how many good answers were compared, and those that differ."""
    compared, differences = 0, []
    rest = iter(names)
    while some := list(islice(rest, AT_ONCE)):
        answers = good(some)
        known = [name for name in some if name.text in answers]
        found = compare_answers(reader_dsn, [(name, answers[name.text]) for name in known])
        compared += sum(finding in (Finding.SAME, Finding.DIFFERENT) for finding in found)
        wrong = (name for name, finding in zip(known, found, strict=True) if finding is Finding.DIFFERENT)
        differences += [_difference(name, answers[name.text]) for name in wrong]
    return compared, differences


def _difference(name: NamedAnswer, answer: GoodAnswer) -> Difference:
    kind, aggregate_id = aggregate_of(name)
    said = "nothing" if answer.body is None else answer.body.decode(errors="replace")[:SHOWN_MAX]
    return Difference(
        entity=ANSWERS.name,
        key=(kind, aggregate_id, name.text),
        kind=DifferenceClass.DIFFERENT,
        merchant_id=name.merchant_id,
        columns=(ColumnDifference(column="says", left="what OLTP says", right=said),),
        aggregate_key=aggregate_key(name.merchant_id, kind, aggregate_id),
    )


def _compare_floors(run: PodRun) -> Findings:
    bound = {"pod": run.pod, "moment": run.context.now() - timedelta(seconds=KEPT_SECONDS)}
    ((above,),) = run.connection.execute(LAST_BEFORE, bound).fetchall()
    with _held(run) as held:
        stands = _standing(run, held, above)
    if stands is None:
        return _unready(run)
    above = max(above, stands.since_cut)
    await_lake(run, run.pod, NAME, [PartitionPosition(partition=0, cut=stands.applied_cut, chunk=0)])
    expected = dict(_touched(run, above, stands.applied_cut))
    _load(run, "expected_floors", _settled(expected, stands))
    _load(run, "held_floors", _settled(stands.floors, stands))
    outcome = compare(run.connection, FLOORS, table("expected_floors"), table("held_floors"), run.context.limits)
    return Findings(outcomes=[outcome], cut=stands.applied_cut)


def _touched(run: PodRun, above: int, through: int) -> Iterator[tuple[str, int]]:
    bound = {"pod": run.pod, "above": above, "through": through}
    yield from run.connection.execute(TOUCHED, bound).fetchall()


def _settled(floors: Mapping[str, int], stands: HeldFloors) -> list[tuple[str, int]]:
    """Return the floors without those of tags that a cut which is being applied has touched, too."""
    return [
        (tag, cut)
        for tag, cut in floors.items()
        if not stands.applied_cut < stands.floors.get(tag, 0) <= stands.begun_cut
    ]


def _load(run: PodRun, name: str, rows: list[tuple[str, int]]) -> None:
    columns = {"tag": pa.array([row[0] for row in rows], pa.string())}
    load(run.connection, name, pa.table({**columns, "cut": pa.array([row[1] for row in rows], pa.int64())}).to_reader())


def _unready(run: PodRun) -> Findings:
    return Findings(outcomes=[], cut=0, late_reason=UNREADY.format(pod=run.pod))


ANSWERS_PAIR = Pair(
    name=f"oltp_{NAME}",
    left="OLTP: what the answer must say",
    right="cache: what it would serve as a good answer",
    description="Every answer that no event has touched since it was read: it must say what OLTP says now.",
    cannot_catch=(
        "Hits that a cached search lacks, and their rank: only what it says of the products that it lists is compared. "
        "A lie about something that changes all the time: such an answer is dropped soon. A change in the outbox that "
        "was pruned since the answer was read may look like an error; to drop an answer does no harm."
    ),
    copy=NAME,
    stage=Stage.OWN,
    shapes=(ANSWERS,),
    compare=_compare_answers,
)
FLOORS_PAIR = Pair(
    name="lake_floors",
    left="lake: the last cut that touched each tag within the last hour, up to the cut that the cache has applied",
    right="cache: the floors of the tags",
    description="Exactly which answers the cache takes for too old, at the cut that it has applied.",
    cannot_catch=(
        "Floors of cuts that are older than any answer that is kept, or than the cache's last beginning. An event that "
        "our program cannot read touches its whole merchant, and shows as an extra floor."
    ),
    copy=NAME,
    stage=Stage.OWN,
    shapes=(FLOORS,),
    compare=_compare_floors,
    sweep=Sweep.WHOLE,
)
