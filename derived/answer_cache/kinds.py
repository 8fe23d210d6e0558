"""The kinds of cached answers, and what each may cost and promise.

Belongs here: these values. Does not belong here: what a reader does with them (`reading.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from derived.answer_cache.port import AnswerKey

JITTER = 0.1
"""Each answer expires up to this part of its time earlier, so that what was filled together is not loaded together."""


@dataclass(frozen=True, kw_only=True)
class AnswerKind:
    """One kind of answers."""

    name: str
    shape: int = 1
    """Version of what the body looks like; raise it with every change."""
    fresh_seconds: float
    """An answer that no event touches is loaded again after this time: so long a lie of the cache can last."""
    absent_seconds: float = 10.0
    """The same for that something does not exist."""
    stale_seconds: float = 30.0
    """So long after it expired an answer may be served, when loading takes long or fails; 0: never."""
    lease_seconds: float = 2.0
    """A lease that is not renewed ends after this time; a killed loader is replaced then."""
    wait_seconds: float = 0.25
    """So long a reader waits for somebody else's load, or for a place to load."""
    load_seconds_max: float = 10.0
    """A lease is not renewed for longer."""
    share: float
    """The part of all loads at once that this kind may take. The smaller it is, the earlier the kind is refused."""

    def key(self, pod: str, merchant_id: str, directory_epoch: int, subject: str) -> AnswerKey:
        """Return the key of one answer of the kind."""
        return AnswerKey(
            pod=pod,
            kind=f"{self.name}.{self.shape}",
            merchant_id=merchant_id,
            directory_epoch=directory_epoch,
            subject=subject,
        )


PRODUCT_PAGE = AnswerKind(name="product_page", fresh_seconds=60.0, share=0.75)
SEARCH_PAGE = AnswerKind(name="search_page", fresh_seconds=30.0, share=0.5)
"""The first page of a search with its facets, put together from the search index at the cut that it has applied."""
MERCHANT = AnswerKind(name="merchant", fresh_seconds=60.0, share=1.0)
"""A merchant's configuration, as its storefront shows it."""
KINDS = (SEARCH_PAGE, PRODUCT_PAGE, MERCHANT)
"""In the order in which they are refused when too many ask at once."""
