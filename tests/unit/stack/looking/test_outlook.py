"""What people are told about the month that comes next."""

from __future__ import annotations

import pytest

from finance.periods import Period
from stack.looking.outlook import Outlook


@pytest.mark.parametrize(
    ("outlook", "sentence"),
    [
        (Outlook(), "Every month that has ended and has entries is closed."),
        (Outlook(period=Period(2010, 12)), "2010-12 has ended and can be closed: tieout close 2010-12"),
        (
            Outlook(period=Period(2010, 12), obstacles=("a break is open", "another")),
            "2010-12 has ended and cannot be closed yet: a break is open (and 1 more).",
        ),
        (Outlook(unknown="It fell."), "Which month can be closed is not known: It fell."),
    ],
)
def test_the_outlook_is_one_sentence(outlook: Outlook, sentence: str) -> None:
    assert outlook.sentence == sentence
