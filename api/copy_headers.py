"""What an answer says of the store that it comes from: which one, up to which cut, how old.

Belongs here: these headers. Does not belong here: which store answers (`api/models.py`, the routes), the age of a
cached answer as HTTP has it (`Age`, in the routes that cache).
"""

from __future__ import annotations

SOURCE, CUT, AGE = "Tieout-Source", "Tieout-Applied-Cut", "Tieout-Data-Age"

TEXTS = {
    SOURCE: "Which store answered: `oltp`, or the name of a copy.",
    CUT: "The pod and the cut up to which the copy holds everything.",
    AGE: "How old the copy's newest cut is, in seconds.",
}
"""What the OpenAPI document says of each."""


def copy_headers(
    source: str, *, pod: str | None = None, cut: int | None = None, age_seconds: float | None = None
) -> dict[str, str]:
    """Return the headers of an answer from `source`; what is not known is left out. A clock that is behind gives 0."""
    headers = {SOURCE: source}
    if pod is not None and cut is not None:
        headers[CUT] = f"{pod}:{cut}"
    if age_seconds is not None:
        headers[AGE] = f"{max(0.0, age_seconds):.3f}"
    return headers
