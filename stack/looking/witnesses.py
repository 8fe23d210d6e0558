"""Which witnesses there should be, why one of them does not count as seeing, and whether what they saw is compared.

Belongs here: these judgements. Does not belong here: the reported states (`reconcile/witness_states.py`), when people
are told (`repair/alerts/outages.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.settings import WITNESS, Settings, pod_setting
from contracts.text import counted
from reconcile.sightings import longest_wait
from reconcile.witness_states import WitnessState, witness_states

OLTP, LOG, READ_MODELS, LAKE = "oltp", "log", "read_models", "lake"
SEARCH, CARTS, CACHE = "search", "carts", "cache"
COMPARED_SECONDS_MAX = 600.0
"""What a witness sees is compared within seconds. After this time the reconciler does not keep up: people are told."""
NEVER = "It has never looked: `tieout up` starts its worker."


@dataclass(frozen=True, kw_only=True)
class WitnessStatus:
    """One witness of one pod."""

    witness: str
    pod: str
    is_set_up: bool = True
    """False when its store has no role for it: then nobody expects it to see, and it is no alarm."""
    looked_at: str | None = None
    proven_at: str | None = None
    position: str = ""
    complaint: str = ""
    """Why it does not count as seeing; empty when it does."""

    @property
    def sentence(self) -> str:
        """What people are told of one that does not see."""
        return f"The witness {self.witness} of {self.pod or 'all pods'} cannot see: {self.complaint}"


def read_witnesses(settings: Settings) -> list[WitnessStatus]:
    """Return every witness that has reported or should have; raises the control database's error."""
    known = {(one.witness, one.pod): one for one in witness_states(settings.control_dsn)}
    without = {(OLTP, pod.pod): pod_setting(pod.pod, WITNESS) for pod in settings.pods if not pod.witness_dsn}
    if not settings.read_models_witness_dsn:
        without[READ_MODELS, ""] = "TIEOUT_READ_MODELS_WITNESS_DSN"
    of_pods = {(name, pod.pod) for name in (OLTP, LOG, SEARCH) for pod in settings.pods}
    of_servers = {(name, "") for name, url in ((CARTS, settings.carts_url), (CACHE, settings.cache_url)) if url}
    expected = {(READ_MODELS, ""), (LAKE, ""), *of_pods, *of_servers}
    return [
        _without(*key, without[key]) if key in without else _status(*key, known.get(key))
        for key in sorted({*known, *expected})
    ]


def read_uncompared(settings: Settings) -> str:
    """Return a sentence when what witnesses saw waits too long for a comparison; raises the control database's error.

    It is empty where the settings let no reconciler run: then only the scheduled comparisons look.
    """
    number, seconds = longest_wait(settings.control_dsn)
    if not settings.reconciler_cpu_percent or seconds <= COMPARED_SECONDS_MAX:
        return ""
    sightings = counted(number, "sighting waits", "sightings wait")
    return f"{sightings} for a comparison, the oldest for {seconds / 60:,.0f} min: the reconciler does not keep up"


def blind(witnesses: Sequence[WitnessStatus]) -> list[str]:
    """Return a sentence for each witness that should see and does not count as seeing."""
    return [one.sentence for one in witnesses if one.complaint and one.is_set_up]


def _without(witness: str, pod: str, setting: str) -> WitnessStatus:
    complaint = f"it has no role there; set {setting} (docs/how-to/own-servers.md)."
    return WitnessStatus(witness=witness, pod=pod, is_set_up=False, complaint=complaint)


def _status(witness: str, pod: str, state: WitnessState | None) -> WitnessStatus:
    if state is None:
        return WitnessStatus(witness=witness, pod=pod, complaint=NEVER)
    return WitnessStatus(
        witness=witness,
        pod=pod,
        looked_at=state.looked_at.isoformat() if state.looked_at else None,
        proven_at=state.proven_at.isoformat() if state.proven_at else None,
        position=state.position.partition(" ")[0],
        complaint=state.complaint,
    )
