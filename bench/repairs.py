"""Damages a system that `tieout up` has started, and only looks: when each was found, repaired, proven and told.

    python -m bench.repairs [--only WORD] [--from ROUND] [--random N --seed S [--tables]] [--large 500000] [--json]

Nothing is launched: witnesses, the reconciler and the repairer find and repair while orders go on being placed. Without
`--random` the rounds of the matrix are made one after the other; with it, N random values of any store are changed,
one each `--pause` seconds. Belongs here: such a system, and the report. Does not belong here: the damages
(`drills/damages/`, `bench/random_damages.py`, `bench/random_serving.py`), looking (`bench/looking.py`), where the
seconds went (`bench/phases.py`), ways to launch comparison and repair (`bench/repair_ways.py`).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import duckdb
import psycopg

from bench.figures import Figure, report
from bench.looking import Times, Workers, breaks_of_change, read_records, seen_after, times_of, wait
from bench.phases import moments_of, phases_of, steps_of_runs
from bench.random_damages import STORES as TABLES
from bench.random_damages import change_anything
from bench.random_serving import STORES as SERVING
from bench.random_serving import ServingDamages
from bench.repair_ways import damage_of
from bench.started import SEED, say, started_system
from cli.console import answers, table
from contracts.breaks import Break
from contracts.errors import StackError
from contracts.settings import Settings
from drills.damages.outcomes import Done, Outcome, breaks_among, outcome_of, unsettled
from drills.damages.place import Round
from drills.damages.rounds import ROUNDS
from stack.composition import session
from stack.composition.damaging import place_of

FOUND_P50_SECONDS, FOUND_P99_SECONDS = 5.0, 30.0
PROVEN_P50_SECONDS, PROVEN_P99_SECONDS, REPAIRED_P50_SECONDS = 30.0, 60.0, 15.0
STEPS_SHOWN = 25
TOLD_SECONDS = 15.0
"""How long a round waits for the messages of what it has found, when all else is over."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One damage, and what became of it."""

    store: str
    damage: str
    times: Times
    reason: str = ""
    """Why it was not found or not repaired, as far as the system says; empty when it was."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """Phase -> its seconds, of what was proven."""
    seen: float | None = None
    """When a witness saw it, in seconds after it; None: none did, or it was not asked."""


def look_at_round(settings: Settings, one: Round, patience: float) -> tuple[list[Looked], list[Outcome]]:
    """Make every damage of a round, and look until all of it is over; return times and judgements."""
    dones = list(damage_of(settings, one))
    own = {key for done in dones for key in done.harm.aggregates}
    fixed: set[int] = set()

    def times() -> list[Times]:
        now = read_records(settings)
        return [times_of(now.alerts, done.at, breaks_among(now.breaks, done, own)) for done in dones]

    def is_over() -> bool:
        now = times()
        for number, (done, seen) in enumerate(zip(dones, now, strict=True)):
            if done.cell.undo and done.cell.is_fixed_first and seen.found is not None and number not in fixed:
                done.cell.undo(place_of(settings, done.pod), done.harm)
                fixed.add(number)
        return all(seen.is_over or _may_rest(done, seen) for done, seen in zip(dones, now, strict=True))

    wait(is_over, patience)
    outcomes = [outcome_of(settings.control_dsn, done, own) for done in dones]
    # In a flood messages are held back, by design.
    wait(lambda: all(seen.told is not None or seen.found is None for seen in times()), TOLD_SECONDS)
    looked = [
        Looked(store=done.cell.store, damage=done.cell.damage, times=seen, reason="; ".join(outcome.faults))
        for done, seen, outcome in zip(dones, times(), outcomes, strict=True)
    ]
    _correct(settings, dones, patience)
    return looked, outcomes


def look_at_rounds(
    settings: Settings, rounds: Sequence[Round], patience: float
) -> tuple[list[Looked], list[Outcome], bool]:
    """Look at one round after the other, and say how each ended; return times, judgements, and whether all were made.

    A round that cannot be made costs its own figures, and not those of the others.
    """
    looked: list[Looked] = []
    outcomes: list[Outcome] = []
    is_whole = True
    for one in rounds:
        say(f"{one.name}: {len(one.cells)} damages")
        try:
            seen, judged = look_at_round(settings, one, patience)
        except (LookupError, StackError, psycopg.Error, duckdb.Error) as error:
            say(f"{one.name} could not be made: {type(error).__name__}: {error}")
            is_whole = False
            continue
        looked, outcomes = looked + seen, outcomes + judged
        say(f"{one.name}: {sum(outcome.is_expected for outcome in judged)} came to what they must")
        for outcome in judged:
            if outcome.faults:
                say(f"  {outcome.store}, {outcome.damage}: {'; '.join(outcome.faults)}")
    return looked, outcomes, is_whole


def _may_rest(done: Done, seen: Times) -> bool:
    return done.cell.may_mend_itself and seen.found is None


def _correct(settings: Settings, dones: Sequence[Done], patience: float) -> None:
    """Make the corrections of people, and look until the breaks have ended."""
    corrected = [done for done in dones if done.cell.is_for_people and done.cell.undo is not None]
    for done in corrected:
        assert done.cell.undo is not None
        done.cell.undo(place_of(settings, done.pod), done.harm)
    if corrected and not wait(lambda: not unsettled(settings.control_dsn), patience):
        say(f"left: {unsettled(settings.control_dsn)[:3]}")


def look_at_random(
    settings: Settings, *, count: int, seed: int, pause: float, patience: float, stores: Sequence[str]
) -> list[Looked]:
    """Change `count` values, one each `pause` seconds, and look until all of it is over."""
    dice, changes = random.Random(seed), []
    ways = ServingDamages(settings=settings).ways()
    for number in range(count):
        changes.append(change_anything(settings, dice, stores, ways))
        say(f"{number + 1}: {changes[-1]}")
        time.sleep(pause)

    def times() -> list[Times]:
        now = read_records(settings)
        return [times_of(now.alerts, change.at, breaks_of_change(change, now.breaks)) for change in changes]

    wait(lambda: all(seen.is_over for seen in times()), patience)
    records = read_records(settings)
    breaks = records.breaks
    moments = moments_of(settings, [item.break_id for item in breaks])
    return [
        Looked(
            store=change.store,
            damage=str(change),
            times=seen,
            phases=phases_of(breaks_of_change(change, breaks), moments) if seen.proven is not None else {},
            reason=_reason(breaks_of_change(change, breaks), seen),
            seen=seen_after(change, records.sightings),
        )
        for change, seen in zip(changes, times(), strict=True)
    ]


def _reason(breaks: Sequence[Break], seen: Times) -> str:
    if seen.state == "not found":
        return "no comparison has reported it"
    return next((item.reason for item in breaks if item.reason), "") if seen.state != "proven" else ""


def chosen_rounds(word: str | None, first: str | None = None) -> list[Round]:
    """Return the rounds from `first` on, with only those cells whose store, damage or round contains the word."""
    rounds = list(ROUNDS)[next((number for number, one in enumerate(ROUNDS) if one.name == first), 0) :]
    if word is None:
        return rounds
    chosen = []
    for one in rounds:
        cells = tuple(cell for cell in one.cells if word in f"{one.name} {cell.store}: {cell.damage}")
        if cells:
            chosen.append(replace(one, cells=cells))
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, look, print; return 0 when every damage came to what it must, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.repairs", description=__doc__)
    parser.add_argument("--only", help="only rounds and damages whose name has this word; with --random: this store")
    names = [one.name for one in ROUNDS]
    parser.add_argument("--from", dest="first", choices=names, metavar="ROUND", help="begin with this round")
    parser.add_argument("--random", type=int, default=0, help="change this many random values instead of the matrix")
    parser.add_argument("--tables", action="store_true", help="with --random: only stores whose facts are rows")
    parser.add_argument("--seed", type=int, default=SEED, help=f"what the random values depend on (default {SEED})")
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between two random damages (default 10)")
    parser.add_argument("--patience", type=float, default=420.0, help="seconds to look at the last one (default 420)")
    parser.add_argument("--orders", type=int, default=250, help="orders placed before the first damage (default 250)")
    parser.add_argument("--large", type=int, default=0, help="orders that the first pod has besides (default 0)")
    parser.add_argument("--no-traffic", action="store_true", help="place no orders meanwhile")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    stores = [one for one in (TABLES if options.tables else (*TABLES, *SERVING)) if options.only in (None, one)]
    rounds = [] if options.random else chosen_rounds(options.only, options.first)
    if not (stores if options.random else rounds):
        parser.error(f"no store or damage is called {options.only!r}")
    looked: list[Looked] = []
    outcomes: list[Outcome] = []
    is_whole = True
    with (
        session.ended_by_signals(),
        started_system(orders=options.orders, has_traffic=not options.no_traffic, large=options.large) as settings,
    ):
        if before := unsettled(settings.control_dsn):
            raise StackError(f"Something differs before anything was damaged: {before[0]}")
        workers = Workers(settings=settings)
        if options.random:
            looked = look_at_random(
                settings,
                count=options.random,
                seed=options.seed,
                pause=options.pause,
                patience=options.patience,
                stores=stores,
            )
        else:
            looked, outcomes, is_whole = look_at_rounds(settings, rounds, options.patience)
        taken, steps = workers.taken(), steps_of_runs(settings)
    if not options.json:
        show_steps(steps)
    return max(_report(looked, outcomes, taken, is_json=options.json), int(not is_whole))


def _report(
    looked: Sequence[Looked], outcomes: Sequence[Outcome], taken: dict[str, tuple[float, float]], *, is_json: bool
) -> int:
    figures = [*_figures(looked, outcomes), *_taken(taken)]
    if is_json:
        damages = [asdict(one) for one in looked]
        print(json.dumps({"bench": "repairs", "damages": damages, "figures": [asdict(one) for one in figures]}))
        return 0 if all(figure.is_met is not False for figure in figures) else 1
    show(looked)
    return report("repairs", figures, is_json=False)


def _figures(looked: Sequence[Looked], outcomes: Sequence[Outcome]) -> list[Figure]:
    seen = sorted(one.seen for one in looked if one.seen is not None)
    found = sorted(one.times.found for one in looked if one.times.found is not None)
    repaired = sorted(one.times.repaired for one in looked if one.times.repaired is not None)
    proven = sorted(one.times.proven for one in looked if one.times.proven is not None)
    told = sorted(one.times.told for one in looked if one.times.told is not None)
    states = Counter(one.times.state for one in looked)
    figures = [Figure(name=f"damages: {state}", value=number, unit="") for state, number in sorted(states.items())]
    over = states["proven"] + states["before people"] + (states["vanished"] if outcomes else 0)
    figures.append(
        Figure(name="damages that were proven right or put before people", value=over, unit="",
               goal=f"= {len(looked)}", is_met=over == len(looked))
    )  # fmt: skip
    if outcomes:
        expected = sum(outcome.is_expected for outcome in outcomes)
        figures.append(
            Figure(name="damages that came to what they must", value=expected, unit="", goal=f"= {len(outcomes)}",
                   is_met=expected == len(outcomes))
        )  # fmt: skip
    for name, values, goals in (
        ("damage to seen", seen, {}),
        ("damage to found", found, {50: FOUND_P50_SECONDS, 99: FOUND_P99_SECONDS}),
        ("found to repaired and compared again", repaired, {50: REPAIRED_P50_SECONDS}),
        ("damage to proven", proven, {50: PROVEN_P50_SECONDS, 99: PROVEN_P99_SECONDS}),
        ("damage to told", told, {}),
    ):
        figures += _quantiles(name, values, goals)
    for phase in dict.fromkeys(name for one in looked for name in one.phases):
        seconds = sorted(one.phases[phase] for one in looked if phase in one.phases)
        figures += _quantiles(f"of that, until it was {phase}", seconds, {})
    return figures


def _quantiles(name: str, values: Sequence[float], goals: dict[int, float]) -> list[Figure]:
    if not values:
        return []
    known = {50: statistics.median(values), 99: values[min(len(values) - 1, int(len(values) * 0.99))]}
    found = [
        Figure(name=f"{name}, p{share}", value=round(value, 1), unit="s",
               goal=f"<= {goals[share]:g}" if share in goals else "",
               is_met=value <= goals[share] if share in goals else None)
        for share, value in known.items()
    ]  # fmt: skip
    return [*found, Figure(name=f"{name}, longest", value=round(values[-1], 1), unit="s")]


def _taken(taken: dict[str, tuple[float, float]]) -> list[Figure]:
    return [
        figure
        for name, (percent, memory) in sorted(taken.items(), key=lambda item: -item[1][0])
        for figure in (
            Figure(name=f"{name}, processor", value=round(percent, 1), unit="%"),
            Figure(name=f"{name}, memory", value=round(memory), unit="MB"),
        )
    ]


def show(looked: Sequence[Looked]) -> None:
    """Print what became of every damage."""
    rows = [
        (
            one.store,
            one.damage,
            one.times.state,
            *(
                _seconds(value)
                for value in (one.seen, one.times.found, one.times.repaired, one.times.proven, one.times.told)
            ),
            ", ".join(one.times.pairs),
            one.reason[:200],
        )
        for one in looked
    ]
    headings = ["Store", "Damage", "State", "Seen s", "Found s", "Repaired s", "Proven s", "Told s", "Pairs", "Why"]
    answers().print(table("Damages and what became of them", headings, rows))


def show_steps(steps: Sequence[tuple[str, int, float, float]]) -> None:
    """Print where the seconds of the repairs went."""
    rows = [(step, str(runs), f"{middle:.2f}", f"{longest:.2f}") for step, runs, middle, longest in steps[:STEPS_SHOWN]]
    answers().print(table("Steps of the repairs", ["Step", "Times", "Median s", "Longest s"], rows))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        sys.exit(f"repairs: {error}")
