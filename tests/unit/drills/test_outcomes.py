"""Which difference classes a damage must be reported as."""

from __future__ import annotations

import pytest

from contracts.verdicts import DifferenceClass as Class
from drills.damages import merchant_sales
from drills.damages.outcomes import misnamed
from drills.damages.place import WHOLE, Cell, Names, names

LAKE, LOG = "oltp_lake.order", "log_manifests"


def cell(named: Names, *also: Class) -> Cell:
    return Cell(damage="a damage", store="lake", do=lambda place: WHOLE, named=named, may_also_be=frozenset(also))


def reported(**classes: Class | tuple[Class, ...]) -> Names:
    return names(**classes)


def test_a_damage_must_be_reported_as_exactly_the_required_classes_in_each_comparison() -> None:
    required = cell(names(oltp_lake__order=(Class.STALE, Class.MISSING), log_manifests=Class.MISSING), Class.TAX)
    both = (Class.STALE, Class.MISSING)
    assert misnamed(required, reported(oltp_lake__order=both, log_manifests=Class.MISSING)) == []
    assert misnamed(required, reported(oltp_lake__order=(*both, Class.TAX), log_manifests=Class.MISSING)) == []
    assert misnamed(required, reported(oltp_lake__order=Class.STALE)) == [
        f"{LAKE} names it stale, not missing, stale",
        f"{LOG} names it nothing, not missing",
    ]
    assert misnamed(cell({LAKE: frozenset()}), reported(oltp_lake__order=Class.EXTRA)) == [], "any class"


@pytest.mark.parametrize(
    ("classes", "is_right"),
    [
        ((Class.MISSING,), True),
        ((Class.AMOUNT,), True),
        ((), False),
        ((Class.MISSING, Class.AMOUNT), False),
        ((Class.EXTRA,), False),
        ((Class.MISSING, Class.EXTRA), False),
    ],
)
def test_a_lost_sum_is_missing_or_begun_again_and_nothing_else(classes: tuple[Class, ...], is_right: bool) -> None:
    lost = merchant_sales.LOST_SUM
    faults = misnamed(lost, reported(lake_merchant_sales=classes) if classes else {})
    shown = ", ".join(sorted(classes)) or "nothing"
    assert faults == ([] if is_right else [f"lake_merchant_sales names it {shown}, not amount or missing"])
    assert lost.pairs == ("lake_merchant_sales",), "its breaks are looked for in this comparison"


@pytest.mark.parametrize(
    ("classes", "is_right"),
    [
        ((Class.EXTRA,), True),
        ((Class.AMOUNT, Class.DIFFERENT), True),
        ((Class.EXTRA, Class.AMOUNT, Class.DIFFERENT), True),
        ((), False),
        ((Class.STALE,), False),
        ((Class.EXTRA, Class.MISSING), False),
    ],
)
def test_a_position_moved_back_shows_what_traffic_can_have_written_and_nothing_else(
    classes: tuple[Class, ...], is_right: bool
) -> None:
    (moved,) = [one for one in merchant_sales.CELLS["views, first"] if one.damage == "position moved back"]
    faults = misnamed(moved, reported(lake_merchant_sales=classes) if classes else {})
    shown = ", ".join(sorted(classes)) or "nothing"
    wanted = "amount and/or different and/or extra"
    assert faults == ([] if is_right else [f"lake_merchant_sales names it {shown}, not {wanted}"])
    assert moved.pairs == ("lake_merchant_sales",), "its breaks are looked for in this comparison"
