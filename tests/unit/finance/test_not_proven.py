"""What stands in the way of closing a month, of what comparisons and the ledger of breaks say."""

from __future__ import annotations

from contracts.breaks import Break, BreakState
from contracts.verdicts import Verdict
from finance.certificate import Evidence
from finance.closing import Proof, not_proven
from finance.late_facts import Remaining
from finance.periods import parse_period
from tests.values import break_of, result_of

DECEMBER = parse_period("2010-12")
DIFFERS = result_of(
    "operational_finance.orders", Verdict.INCONSISTENT, cut=9, compared=100, different=1, classes={"amount": 1}
)
ACCEPTED = break_of(aggregate_key="eire/order/o1", state=BreakState.ACCEPTED, reason="Known.")


def said(*breaks: Break) -> list[str]:
    evidence = Evidence(results={"pod1": [DIFFERS]}, figures=[], breaks=breaks)
    proof = Proof(evidence=evidence, newest=[DIFFERS], remaining=[Remaining(pod="pod1", cut=9)], imports=[])
    return list(not_proven(DECEMBER, ["pod1"], proof))


def test_a_difference_whose_accepted_break_was_deleted_stands_in_the_way_again() -> None:
    assert said(ACCEPTED) == []
    assert said() == [
        "operational_finance.orders in pod1 at cut 9: 1 key differs, 0 of them accepted or of days after the month"
    ]
