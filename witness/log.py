"""The witness of a pod's log: it sees what was lost, cut off, put in another's place, or appended by no relay.

At each look the log's own counters must follow from those of the look before, by manifests, trimming and generations
alone. Counters cannot see a stream that was written again with the same ids. So the content is read, too: all of it
after a command that can replace a stream, and else in a rotation, a few entries a second.

Belongs here: what a look does, and in which order. Does not belong here: judging counters (`witness/log_seen.py`) and
content (`witness/log_content.py`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec

from contracts.ownership import LOG
from contracts.sightings import Sighting, SightingKind
from reconcile.connections import Connections
from reconcile.sightings import keep_sightings
from reconcile.witness_states import keep_position, kept_position
from streams.counters import LogCounters
from streams.log import EventLog, Manifest
from witness.log_content import (
    BLOCK,
    PAGE,
    block_of,
    changed_block,
    decoded,
    entry_finding,
    places_of,
    read_manifests,
    unregistered,
    whole_blocks,
    with_digests,
    wrongly_begun,
)
from witness.log_seen import (
    MANIFESTS,
    NAME,
    Finding,
    SeenLog,
    backward,
    begin_of,
    is_as_it_began,
    moved_streams,
    pending,
    place_key,
    seen_now,
    stranger,
    stream_name,
    told_by,
    unexplained,
    unexplained_lengths,
)
from witness.log_survey import Survey, against_survey
from witness.watching import Look

BEAT_SECONDS = 15.0
ROTATION_ENTRIES = 2
"""Entries that one look reads in the rotation."""
RECHECK_ENTRIES = 200
"""Entries that one look reads after a command that can replace a stream, newest first, until all are read."""
RECHECK_SECONDS = 30.0
"""A second reading of everything begins this long after the first at the earliest, whatever others do on the server."""

REGISTERED = "select cut, snapshot::text from oltp.cuts where cut = any(%(cuts)s)"
FIRST_CUT = "select coalesce(min(cut), 0) from oltp.cuts"


@dataclass(kw_only=True)
class _Rotation:
    """Where the reading of content is: it goes from the newest manifest to the oldest, and begins again."""

    below: int | None = None
    """The next block to read is the one before this cut; None: begin with the newest."""
    waiting: list[Manifest] = field(default_factory=list)
    """Manifests of the present block whose entries are still to be read, the newest last."""
    is_recheck: bool = False
    recheck_due: bool = False
    began_at: float | None = None

    def begin_if_due(self, now: float) -> None:
        """Begin a reading of everything, if a command asks for it and the last one began long enough ago."""
        if self.recheck_due and (self.began_at is None or now - self.began_at >= RECHECK_SECONDS):
            self.below, self.waiting = None, []
            self.is_recheck, self.recheck_due, self.began_at = True, False, now


@dataclass(kw_only=True)
class LogWitness:
    """Looks at one pod's log. `pod_dsn` may read the pod's cuts; empty: manifests are not compared with them."""

    pod: str
    log: EventLog
    control_dsn: str
    partition_count: int
    pod_dsn: str = ""
    name: str = NAME
    interval_seconds: float = 0.5
    beat_seconds: float = BEAT_SECONDS
    _beats: dict[str, float] = field(default_factory=dict)
    """What heartbeats say that were not seen yet, and when each was written, by the monotonic clock."""
    _beaten: float | None = None
    _before: SeenLog | None = None
    _begun: set[int] = field(default_factory=set)
    """Cuts without a manifest that were looked for in the pod."""
    _rotation: _Rotation = field(default_factory=_Rotation)
    _connections: Connections = field(default_factory=Connections)

    def look_once(self) -> Look:
        """Read the counters and some content, and store what does not follow from the look before."""
        if self._beaten is None or time.monotonic() - self._beaten >= self.beat_seconds:
            self._beat()
        before = self._before or self._stored()
        if before is None:
            return self._begin()
        now = self._counters({*before.named_until, before.generation}, before.manifest_cut)
        self._rotation.recheck_due |= (now.replacements, now.server_run) != (before.replacements, before.server_run)
        if _is_continued(before, now):
            findings = self._judged(before, now)
            after = _followed(before, now)
        else:
            now, survey = self._surveyed(before.named_until)
            findings = against_survey(before, now, survey)
            after = seen_now(now, {}, survey.named_until, survey.blocks)
        if findings:
            now, survey = self._surveyed()
            after = seen_now(now, {}, survey.named_until, survey.blocks)
        count = self._keep(self._sightings(findings, now), after)
        # Kept first: where the server refuses to give content, the counters are looked at all the same.
        count += 0 if findings else self._look_at_content(after)
        return Look(sightings=count, proven_seconds_ago=self._proven(now.said))

    def close(self) -> None:
        """Close the connections to the databases; the log's belong to whoever opened it."""
        self._connections.close()

    def _begin(self) -> Look:
        """Take the log as it is; say what was not seen, unless it is as it began."""
        now, survey = self._surveyed()
        findings = [*survey.findings, *unexplained_lengths(now, survey.told)]
        sightings = self._sightings(findings, now)
        if not is_as_it_began(now):
            sightings.append(
                Sighting(
                    witness=NAME,
                    kind=SightingKind.BLIND,
                    pod=self.pod,
                    copy=LOG.name,
                    place="log",
                    what=f"What was done to the log before cut {survey.through_cut} was not seen.",
                    transaction=f"before {survey.through_cut}",
                )
            )
        self._rotation.recheck_due = now.manifests is not None
        count = self._keep(sightings, seen_now(now, {}, survey.named_until, survey.blocks))
        return Look(sightings=count, proven_seconds_ago=self._proven(now.said))

    def _judged(self, before: SeenLog, now: LogCounters) -> list[Finding]:
        """Return what in counters and new manifests does not follow from the last look."""
        read = decoded(now.later)
        found = [*backward(before, now), *read.findings, *self._strange(read.manifests)]
        found += [] if found else self._begun_by_a_stranger(now)
        added = before.manifests.added if before.manifests else 0
        if not found and now.manifests and now.manifests.added - added != len(now.later):
            found.append(stranger(MANIFESTS, f"Up to cut {now.manifests.last[0]}, manifests were added and removed."))
        if not found:
            found += unexplained(before.entries, now, told_by(read.manifests))
            found += self._cut_off(before, now)
        return found

    def _cut_off(self, before: SeenLog, now: LogCounters) -> list[Finding]:
        """Return the streams that lost entries at their beginning which manifests still name."""
        found = []
        for moved in moved_streams(before, now):
            stated = read_manifests(self.log, self.pod, now.kept_from_cut, moved.before[0])
            manifests = (manifest for one in stated for manifest in decoded([one]).manifests)
            finding = wrongly_begun(manifests, moved.place, moved.before)
            found += [finding] if finding else []
        return found

    def _strange(self, manifests: Sequence[Manifest]) -> list[Finding]:
        """Return the manifests of cuts that the pod has not registered, or otherwise."""
        if not self.pod_dsn or not manifests:
            return []
        return unregistered(manifests, *self._registered([manifest.cut for manifest in manifests]))

    def _begun_by_a_stranger(self, now: LogCounters) -> list[Finding]:
        """Return the streams with entries of the next cut, if the pod has registered none: a relay does so first."""
        cuts = {
            place: stream.last[0]
            for place, stream in now.entries.items()
            if place[0] == now.generation and pending(stream, now.manifests)
        }
        if not self.pod_dsn or not cuts or set(cuts.values()) == self._begun:
            return []
        snapshots, _ = self._registered(sorted(set(cuts.values())))
        self._begun = set(cuts.values())
        return [
            stranger(stream_name(place), f"Entries of cut {cut}, which the pod has not registered.")
            for place, cut in cuts.items()
            if cut not in snapshots
        ]

    def _registered(self, cuts: Sequence[int]) -> tuple[dict[int, str], int]:
        """Return the snapshots of the cuts among these that the pod knows, and its first cut."""
        connection = self._connections.to(self.pod_dsn)
        snapshots = {row[0]: row[1] for row in connection.execute(REGISTERED, {"cuts": list(cuts)}).fetchall()}
        # Asked after the cuts: one that was pruned in between is before the first one.
        ((first_cut,),) = connection.execute(FIRST_CUT).fetchall()
        return snapshots, first_cut

    def _counters(self, generations: Collection[int], after_cut: int) -> LogCounters:
        """Ask for the counters of these generations; once more when new manifests name more partitions."""
        while True:
            places = [(number, partition) for number in generations for partition in range(self.partition_count)]
            now = self.log.counters(self.pod, places, after_cut, limit=PAGE)
            named = max((len(manifest.partitions) for manifest in decoded(now.later).manifests), default=0)
            if named <= self.partition_count:
                return now
            self.partition_count = named

    def _surveyed(self, known: Collection[int] = ()) -> tuple[LogCounters, Survey]:
        """Read all manifests, and the counters that belong to them; of `known` generations, too."""
        while True:
            start = self.log.counters(self.pod, (), 0, limit=1)
            survey = Survey(check=self._strange)
            survey.add(read_manifests(self.log, self.pod, 0, start.manifests.last[0] if start.manifests else 0))
            self.partition_count = max([self.partition_count, *(place[1] + 1 for place in survey.told)])
            now = self._counters({*survey.named_until, *known, start.generation}, survey.through_cut)
            is_same = (now.generation, now.kept_from_cut) == (start.generation, start.kept_from_cut)
            if is_same and len(now.later) < PAGE:
                survey.add(now.later)
                survey.blocks = whole_blocks(survey.blocks, begin_of(now.manifests)[0] if now.manifests else 0)
                return now, survey

    def _look_at_content(self, after: SeenLog) -> int:
        """Read the next entries of the rotation, and store what is wrong; return how many sightings were stored."""
        content = self._content(after)
        if not content:
            return 0
        # What was trimmed, or what a new generation has replaced while we read, is no loss.
        now = self.log.counters(self.pod, (), after.manifest_cut, limit=1)
        if now.generation != after.generation:
            return 0
        return self._keep(self._sightings([one for cut, one in content if cut >= now.kept_from_cut], now), after)

    def _sightings(self, findings: Sequence[Finding], now: LogCounters) -> list[Sighting]:
        return [one.sighting(self.pod, f"server run {now.server_run}") for one in findings]

    def _content(self, before: SeenLog) -> list[tuple[int, Finding]]:
        """Read the next entries of the rotation; return what is wrong, with the cut that it is at."""
        rotation = self._rotation
        rotation.begin_if_due(time.monotonic())
        budget = RECHECK_ENTRIES if rotation.is_recheck else ROTATION_ENTRIES
        found = [] if rotation.waiting else self._next_block(before)
        while rotation.waiting and budget > 0:
            for at, chunk, place in places_of(self.pod, [rotation.waiting.pop()]):
                finding = entry_finding(self.log, self.pod, at, chunk, place)
                found += [(at.cut, finding)] if finding else []
                budget -= 1
        if rotation.below is None and not rotation.waiting:
            rotation.is_recheck = False
        return found

    def _next_block(self, before: SeenLog) -> list[tuple[int, Finding]]:
        """Read the manifests of the next block, compare them with their digests, and let their entries be read."""
        rotation = self._rotation
        first = block_of((rotation.below or before.manifest_cut + 1) - 1)
        last = min(first + BLOCK - 1, before.manifest_cut)
        begin = before.manifests.first[0] if before.manifests else 0
        rotation.below = first if first > begin else None
        stated = list(read_manifests(self.log, self.pod, first, last))
        rotation.waiting = list(decoded(stated).manifests)
        held = before.blocks.get(first)
        if held is None or with_digests({}, stated).get(first) == held:
            return []
        return [(first, changed_block(first, last))]

    def _beat(self) -> None:
        said, self._beaten = secrets.token_hex(16), time.monotonic()
        self._beats[said] = self._beaten
        self.log.beat(self.pod, said)

    def _proven(self, said: str) -> float | None:
        """Return how long ago the heartbeat was written that the log has now; None when it is known or not ours."""
        written = self._beats.pop(said, None)
        return None if written is None else time.monotonic() - written

    def _stored(self) -> SeenLog | None:
        position = kept_position(self._connections.to(self.control_dsn), NAME, self.pod)
        try:
            stored = msgspec.json.decode(position.partition(" ")[2], type=SeenLog)
        except msgspec.DecodeError:
            return None
        known = [int(key.partition("/")[2]) + 1 for key in stored.entries]
        self.partition_count = max([self.partition_count, *known])
        return stored

    def _keep(self, sightings: Sequence[Sighting], after: SeenLog) -> int:
        count = 0
        if after != self._before or sightings:
            control = self._connections.to(self.control_dsn)
            with control.transaction():
                count = keep_sightings(control, sightings)
                keep_position(control, NAME, self.pod, f"{after.manifest_cut} {msgspec.json.encode(after).decode()}")
        self._before = after
        return count


def _is_continued(before: SeenLog, now: LogCounters) -> bool:
    """Return whether the new manifests follow the last one that was seen, so that they explain all that is new."""
    is_next = not now.later or not before.manifest_cut or now.later[0].at[0] == before.manifest_cut + 1
    return now.generation == before.generation and len(now.later) < PAGE and is_next


def _followed(before: SeenLog, now: LogCounters) -> SeenLog:
    """Return the log as it is after a look that explains all of it."""
    manifests = decoded(now.later).manifests
    new = told_by(manifests)
    told = {}
    for place in now.entries:
        seen = before.entries.get(place_key(place))
        if place[0] == now.generation:
            told[place] = (seen.told if seen else 0) + new.get(place, 0)
    named_until = {**before.named_until, **{manifest.generation: manifest.cut for manifest in manifests}}
    begin = begin_of(now.manifests)[0] if now.manifests else 0
    return seen_now(now, told, named_until, whole_blocks(with_digests(before.blocks, now.later), begin))
