"""The words for the result of comparing many pairs; a certificate, a run and a page use only these.

Each of them says what it covers: a certificate covers finance and its sources, a run covers every copy. So a
certificate may tie while a run does not; then no report contains the difference.

Belongs here: the words. Does not belong here: the verdict of one pair (`contracts/verdicts.py`).
"""

from __future__ import annotations

from enum import StrEnum


class Tying(StrEnum):
    """The result for everything that is covered."""

    TIES = "Ties"
    """Everything was compared and agrees, except for differences that people have accepted."""
    DOES_NOT_TIE = "Does not tie"
    """There is a difference that nobody has accepted."""
    NOT_COMPARED = "Not compared"
    """No difference is known, but a part was late, could not be read, or was never compared."""
