"""The words for what a comparison of many pairs comes to: a certificate, a run and a page use these and no others.

Each says what it covers: a certificate covers finance and what it is made from, a run every copy. So a run may not tie
where a certificate does; then what differs is in no report.

Belongs here: the words. Does not belong here: the verdict of one pair (`contracts/verdicts.py`).
"""

from __future__ import annotations

from enum import StrEnum


class Tying(StrEnum):
    """What is known of everything that is covered."""

    TIES = "Ties"
    """All of it was compared and agrees, but for differences that people have accepted."""
    DOES_NOT_TIE = "Does not tie"
    """Something of it differs, and nobody has accepted that."""
    NOT_COMPARED = "Not compared"
    """Nothing is known to differ, and something of it was late, could not be read, or was never compared."""
