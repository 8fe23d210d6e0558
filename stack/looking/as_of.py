"""The cuts of a requested report: given as cuts, or found from a day's end or a moment in time.

Belongs here: what `--as-of` and `--cut` accept, and a sentence about the cuts that were found. Does not belong here:
making the report (`stack/looking/reporting.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from contracts.clock import Clock, utc_now
from contracts.errors import InputError
from contracts.settings import Settings
from derived.lake_reads import cut_vector_at, first_cut_at
from derived.reports import noted_cuts
from finance.presentation import moment as shown
from finance.reading import reading

MEANING = "It asks what was recorded by then, whatever its business day; for what happened in a month give --period"


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """The cuts of a requested report, and a sentence that explains them."""

    cuts: Mapping[str, int]
    sentence: str


def wanted_cuts(settings: Settings, as_of: str | None, cuts: Sequence[str], *, clock: Clock = utc_now) -> AsOf | None:
    """Return the requested cuts, given as cuts or as a day or moment; None for the newest."""
    if as_of is not None and "=" in as_of:
        return _at_cuts(settings, as_of.split(","))
    if as_of is not None:
        return _at_moment(settings, as_of, clock())
    return _at_cuts(settings, cuts) if cuts else None


def check_asked(as_of: str | None, cuts: Sequence[str], *, clock: Clock = utc_now) -> None:
    """Raise InputError for options that are invalid for every system; called before servers are started or queried."""
    if as_of is not None and cuts:
        raise InputError("Give either --as-of or --cut, not both.")
    if as_of is not None and "=" not in as_of:
        _moment_of(as_of, clock())
        return
    for text in cuts if as_of is None else as_of.split(","):
        _cut_of(text)


def parse_moment(text: str) -> datetime:
    """Return the moment of an ISO 8601 text, in UTC unless it has an offset; a date is the end of that day."""
    try:
        if len(text) == len("2011-01-31"):
            day = date.fromisoformat(text)
            # The last date has no next day, so we use the last moment that `datetime` supports.
            return datetime.max.replace(tzinfo=UTC) if day == date.max else _start(day + timedelta(days=1))
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise InputError(f"--as-of {text} lies outside of the years 1 to 9999 in UTC.") from None
    except ValueError:
        raise InputError(
            f"{text!r} is no date or time and no cuts; write 2011-01-31, 2011-01-31T18:00:00 or pod1=17,pod2=9."
        ) from None


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _moment_of(text: str, now: datetime) -> tuple[datetime, bool]:
    """Return the moment, and whether it is the end of a day."""
    moment = parse_moment(text)
    is_day = len(text) == len("2011-01-31")
    if moment - timedelta(days=1 if is_day else 0) > now:
        raise InputError(
            f"--as-of {text} lies in the future (now it is {now:%Y-%m-%d %H:%M:%S} UTC); leave it out for what is "
            "known now."
        )
    return moment, is_day


def _cut_of(text: str) -> tuple[str, int]:
    """Return the pod and the cut of a text such as ``pod1=17``."""
    pod, _, number = text.strip().partition("=")
    if not re.fullmatch("[0-9]{1,18}", number):
        raise InputError(f"{text!r} is no cut; write it as pod1=17.")
    return pod, int(number)


def _at_moment(settings: Settings, text: str, now: datetime) -> AsOf:
    moment, is_day = _moment_of(text, now)
    said = f"the end of {text} UTC" if is_day else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    with reading(settings) as lake:
        cuts = cut_vector_at(lake, moment)
        if not any(cuts.values()):
            first = first_cut_at(lake)
            begins = (
                f"the first cut is of {first:%Y-%m-%d %H:%M:%S} UTC" if first else "nothing has been recorded at all"
            )
            raise InputError(f"By {said} nothing was recorded: {begins}. {MEANING}{_month(text)}.")
        noted = noted_cuts(lake, {pod: cut for pod, cut in cuts.items() if cut})
    found = [
        f"{pod} at cut {cut}, of {shown(known.registered_at.isoformat())}"
        if (known := noted.get(pod))
        else f"{pod} with nothing yet"
        for pod, cut in sorted(cuts.items())
    ]
    return AsOf(cuts=cuts, sentence=f"As of {said}: {'; '.join(found)}. {MEANING}.")


def _month(text: str) -> str:
    return f" {text[:7]}" if re.match(r"[1-9]\d{3}-\d\d", text) else ""


def _at_cuts(settings: Settings, texts: Sequence[str]) -> AsOf:
    found: dict[str, int] = {}
    for text in texts:
        pod, number = _cut_of(text)
        name = settings.pod(pod).pod
        if name in found:
            raise InputError(f"{name} is named twice; give one cut of each pod.")
        found[name] = number
    missing = [pod.pod for pod in settings.pods if pod.pod not in found]
    absent = f" Nothing of {', '.join(missing)}, which is not named, is in it." if missing else ""
    cuts = ", ".join(f"{pod} at cut {cut}" for pod, cut in sorted(found.items()))
    return AsOf(cuts=found, sentence=f"As of {cuts}.{absent}")
