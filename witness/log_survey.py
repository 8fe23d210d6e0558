"""What all manifests of the log say together; the witness reads them all when counters alone cannot follow.

Belongs here: that sum. Does not belong here: when it is asked for (`witness/log.py`), single manifests
(`witness/log_content.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from streams.counters import LogCounters, StatedManifest
from streams.log import Manifest
from witness.log_content import PAGE, changed_blocks, decoded, missing_between, whole_blocks, with_digests
from witness.log_seen import Finding, Place, SeenLog, backward, begin_of, told_by, unexplained_lengths


@dataclass(kw_only=True)
class Survey:
    """Manifests in order, page by page. `check` compares a page's manifests with the pod's cuts."""

    check: Callable[[Sequence[Manifest]], list[Finding]]
    blocks: dict[int, tuple[int, int]] = field(default_factory=dict)
    told: dict[Place, int] = field(default_factory=dict)
    named_until: dict[int, int] = field(default_factory=dict)
    first_named: dict[int, int] = field(default_factory=dict)
    """Generation -> the first cut whose manifest names it."""
    findings: list[Finding] = field(default_factory=list)
    through_cut: int = 0

    def add(self, stated: Iterable[StatedManifest]) -> None:
        """Take manifests, in order."""
        page: list[StatedManifest] = []
        for one in stated:
            page.append(one)
            if len(page) == PAGE:
                self._add(page)
                page = []
        if page:
            self._add(page)

    def _add(self, page: Sequence[StatedManifest]) -> None:
        read = decoded(page)
        self.findings += [*read.findings, *missing_between(self.through_cut, page), *self.check(read.manifests)]
        self.blocks = with_digests(self.blocks, page)
        for place, count in told_by(read.manifests).items():
            self.told[place] = self.told.get(place, 0) + count
        for manifest in read.manifests:
            self.first_named.setdefault(manifest.generation, manifest.cut)
            self.named_until[manifest.generation] = manifest.cut
        self.through_cut = page[-1].at[0]


def against_survey(before: SeenLog, now: LogCounters, survey: Survey) -> list[Finding]:
    """Return what does not follow where a generation has begun, or more was missed than one answer holds."""
    newer = [cut for generation, cut in survey.first_named.items() if generation > before.generation]
    end = min([*newer, before.manifest_cut + 1, survey.through_cut + 1])
    found = [*survey.findings, *backward(before, now), *unexplained_lengths(now, survey.told)]
    begin = begin_of(now.manifests)[0] if now.manifests else 0
    return [*found, *changed_blocks(whole_blocks(before.blocks, begin), survey.blocks, before_cut=end)]
