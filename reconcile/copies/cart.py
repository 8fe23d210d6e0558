"""The cart's two stores in the register of comparisons: what differs becomes breaks, by cart.

Neither store owns the other. Valkey has what devices see, so it is the left side; what its pod lacks is missing there.
Belongs here: that pair. Does not belong here: how states are compared (`reconcile/cart_comparison.py`), the merge that
repairs (`repair/serving.py`).
"""

from __future__ import annotations

from collections import Counter

from contracts.errors import ComparisonError
from contracts.ids import aggregate_key
from contracts.text import are, counted
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass, Verdict
from reconcile.cart_comparison import CartClass, CartDifference, CartFindings, compare_carts
from reconcile.compare import Outcome
from reconcile.pair import Findings, Pair, PodRun, Stage
from reconcile.shapes import VARCHAR, Column, Shape, belongs_to

NAME = "cart"
DAY_MS = 86_400_000
CARTS = Shape(
    name="carts",
    key=("merchant_id", "cart_id"),
    columns=(Column(name="changes", type=VARCHAR),),
    aggregate=belongs_to(NAME, "cart_id"),
)
KINDS = {
    CartClass.MISSING: DifferenceClass.MISSING,
    CartClass.BEHIND: DifferenceClass.STALE,
    CartClass.STALE: DifferenceClass.STALE,
    CartClass.APART: DifferenceClass.STALE,
    CartClass.DIFFERENT: DifferenceClass.DIFFERENT,
    CartClass.UNREADABLE: DifferenceClass.DIFFERENT,
}
"""A merge repairs what is missing or stale; what is different is for people."""
ALL, SOME, NONE = "all", "some", "none"
CHANGES = {
    CartClass.MISSING: (ALL, NONE),
    CartClass.BEHIND: (ALL, SOME),
    CartClass.STALE: (SOME, ALL),
    CartClass.APART: ("some that the pod lacks", "some that Valkey lacks"),
    CartClass.DIFFERENT: ("the same, with other units", "the same, with other units"),
    CartClass.UNREADABLE: ("one of the two cannot be read", "one of the two cannot be read"),
}
"""Which of all changes Valkey has, and which the pod has."""


def _compare(run: PodRun) -> Findings:
    context = run.context
    if context.carts is None:
        raise ComparisonError("The carts cannot be looked at: this run was given no way to their server.")
    with context.carts(run.pod) as store:
        bound_ms = context.now().timestamp() * 1_000 - store.age_days * DAY_MS
        found = compare_carts(
            store.sides,
            is_expired=lambda touched_ms: touched_ms < bound_ms,
            wait=lambda: context.sleep(store.settled_seconds),
            is_covered=None if run.scope is None else run.scope.covers,
        )
    if found.verdict is Verdict.UNKNOWN:
        raise ComparisonError(found.reason)
    classes = Counter(KINDS[item.kind] for item in found.differences)
    outcome = Outcome(
        compared=found.compared,
        classes=dict(classes),
        sample=tuple(_difference(item) for item in found.differences[: context.limits.sample]),
    )
    return Findings(
        outcomes=[outcome],
        late_aggregates=[aggregate_key(key.merchant_id, NAME, key.cart_id) for key in found.undecided],
        late_reason=_lateness(found),
    )


def _difference(item: CartDifference) -> Difference:
    key, (in_valkey, in_pod) = item.key, CHANGES[item.kind]
    return Difference(
        entity=CARTS.name,
        key=(key.merchant_id, key.cart_id),
        kind=KINDS[item.kind],
        merchant_id=key.merchant_id,
        columns=(ColumnDifference(column="changes", left=in_valkey, right=in_pod),),
        aggregate_key=aggregate_key(key.merchant_id, NAME, key.cart_id),
    )


def _lateness(found: CartFindings) -> str:
    number = len(found.undecided)
    return f"{counted(number, 'cart')} of {found.pod} {are(number)} on the way to the pod." if number else ""


CART_PAIR = Pair(
    name=f"oltp_{NAME}",
    left="Valkey: the state of every cart that it has",
    right="OLTP: the state of the same cart in its pod",
    description="Every cart that Valkey has, by its version vector and by its units, with what its pod has of it.",
    cannot_catch=(
        "A state that was changed in both stores in the same way; a cart that only its pod has, for Valkey may lose "
        "what it has and gets it back when somebody asks for it."
    ),
    copy=NAME,
    stage=Stage.OLTP,
    shapes=(CARTS,),
    compare=_compare,
)
