"""The matrix of damages: every class in every store where it can happen, its required class, and who corrects it.

Damages to different rows are made at the same time, in rounds; one comparison finds them and one repair repairs them,
as in a real incident. Belongs here: the list; `docs/repairs.md` is generated from it. Does not belong here: the damages
themselves (the other modules of this folder), running a round (`bench/repairs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from contracts.ownership import ANSWER_CACHE, CART, KEYED, WAREHOUSE, WEBHOOKS, Copy
from contracts.verdicts import DifferenceClass as Class
from drills.damages import lake, log, oltp
from drills.damages.marts import EMPTIED, MART_CELLS
from drills.damages.people import OWNER_FAMILIES, PEOPLE_CELLS, TAMPERED_CELLS
from drills.damages.place import Cell, Damage, Round, back, names
from repair.values import ActionKind as Act

OLTP, LOG, LAKE = "oltp", "log", "lake"
BEFORE_BUILDS = (
    "oltp_lake",
    "outbox_log",
    "log_positions",
    "log_manifests",
    *(family for copy in KEYED for family in copy.found_by),
)
SERVING = (ANSWER_CACHE, CART)
SERVED = tuple(family for copy in SERVING for family in copy.found_by)
MARTS = WAREHOUSE.found_by
RESTORE, REPLACE = (Act.RESTORE_EVENTS,), (Act.REPLACE_EVENTS,)


def _in_lake(damage: str, do: Damage, actions: tuple[Act, ...], **found: Class | tuple[Class, ...]) -> Cell:
    return Cell(damage=damage, store=LAKE, do=do, named=names(**found), actions=actions)


def _lost(damage: str, do: Damage, **found: Class | tuple[Class, ...]) -> Cell:
    """Return a cell of events that the lake has no more, and that the manifests name."""
    return _in_lake(damage, do, RESTORE, **found, log_manifests=Class.MISSING)


def _altered(damage: str, do: Damage, **found: Class) -> Cell:
    """Return a cell of events that say something else in the lake than their checksums in the manifests."""
    return _in_lake(damage, do, REPLACE, **found, log_manifests=Class.DIFFERENT)


def _past_outbox(damage: str, do: Damage, **found: Class) -> Cell:
    return Cell(damage=damage, store=OLTP, do=do, named=names(**found), actions=(Act.RESTATE,))


LAKE_CELLS = (
    _lost("event lost, others followed it", lake.lose_first_event, oltp_lake__order=Class.DIFFERENT),
    _lost("newest event lost: row stale", lake.lose_newest_event, oltp_lake__payment=(Class.STALE, Class.MISSING)),
    _lost("all events lost: row missing", lake.lose_all_events, oltp_lake__order=Class.MISSING),
    _in_lake(
        "event twice",
        lake.double_event,
        (Act.REMOVE_DUPLICATES,),
        oltp_lake__order=Class.DUPLICATE,
        log_manifests=Class.DUPLICATE,
    ),
    Cell(
        damage="event twice, with another amount",
        store=LAKE,
        do=lake.double_event_altered,
        named=names(oltp_lake__payment=Class.DUPLICATE, log_manifests=Class.DUPLICATE),
        # The comparison folds one of two different duplicates, and no order decides which; it may be the altered one.
        may_also_be=frozenset({Class.AMOUNT}),
        actions=(Act.REMOVE_DUPLICATES, Act.REPLACE_EVENTS),
    ),
    _altered("changed by one minor unit", lake.change_amount, oltp_lake__payment=Class.AMOUNT),
    _altered("wrong currency", lake.change_currency, oltp_lake__payment=Class.CURRENCY),
    _lost("newest event of a gift card lost: balance stale", lake.lose_card_event, oltp_lake__gift_card=Class.STALE),
    _altered("spending of a gift card changed by one minor unit", lake.change_card, oltp_lake__gift_card=Class.AMOUNT),
    _altered("two errors that cancel", lake.change_two_amounts, oltp_lake__payment=Class.AMOUNT),
    _altered("captured order halved", lake.halve_order, oltp_lake__order=Class.AMOUNT),
    _altered("one of a line's taxes lost", lake.lose_one_tax, oltp_lake__order=Class.MISSING),
    _altered("two taxes of a line swapped", lake.swap_taxes, oltp_lake__order=Class.TAX),
    _altered("old event altered", lake.change_old_event),
    _altered("envelope altered", lake.change_envelope),
    _in_lake(
        "event forged: row extra",
        lake.forge_event,
        (Act.REMOVE_EXTRA_EVENTS,),
        oltp_lake__order=Class.DIFFERENT,
        log_manifests=Class.EXTRA,
    ),
    _in_lake(
        "event parked",
        lake.park_event,
        (Act.REPLAY_PARKED,),
        oltp_lake__order=Class.PARKED,
        log_manifests=Class.MISSING,
    ),
)
OUTBOX_CELLS = (
    _past_outbox("row changed past the outbox", oltp.change_customer, oltp_lake__order=Class.DIFFERENT),
    _past_outbox("gift card's reason changed past the outbox", oltp.change_card, oltp_lake__gift_card=Class.DIFFERENT),
    _past_outbox("product renamed past the outbox", oltp.change_title, oltp_lake__product=Class.DIFFERENT),
)


def _of_read_models(round_name: str) -> tuple[Cell, ...]:
    return _of(KEYED, round_name)


def _of(copies: Sequence[Copy], round_name: str) -> tuple[Cell, ...]:
    modules = (import_module(f"drills.damages.{copy.name}") for copy in copies)
    return tuple(cell for module in modules for cell in module.CELLS.get(round_name, ()))


def _in_log(damage: str, do: Damage, kind: Class, *of_lake: Class, pod: int = 0) -> Cell:
    """Return a cell of the log. The lake is compared with the log too, but not for entries that it still waits for."""
    named = {"outbox_log": frozenset({kind})} | ({"log_manifests": frozenset(of_lake)} if of_lake else {})
    return Cell(damage=damage, store=LOG, do=do, named=named, actions=(Act.REPUBLISH,), pod=pod)


VIEWS_FIRST = (
    *_of_read_models("views, first"),
    # Every copy has read the entry, so the log may trim it before the repair.
    replace(_in_log("entry lost", log.lose_entry, Class.MISSING, Class.EXTRA), may_mend_itself=True),
)
VIEWS_SECOND = (
    *_of_read_models("views, second"),
    _in_log("manifest lost", log.lose_manifest, Class.MISSING, Class.EXTRA),
)
LOG_CELLS = (
    _in_log("entry lost before anything read it", log.lose_unread_entry, Class.MISSING),
    _in_log("entry altered before anything read it", log.alter_unread_entry, Class.DIFFERENT, pod=1),
)
EMPTIED_LOG = Cell(
    damage="everything lost while copies had not read it, and the relay went on",
    store=LOG,
    do=log.lose_unread_cuts,
    named=names(log_positions=Class.DIFFERENT),
    actions=(Act.REPUBLISH,),
)
LAKE_FIRST = (
    back(LAKE, lake.lake_back, "log_manifests"),
    Cell(
        damage="position beyond every cut, an event lost before it",
        store=LAKE,
        do=lake.lake_beyond,
        named=names(log_manifests=Class.MISSING),
        # The count of the event's log entry differs too, unless the entry had only this event.
        may_also_be=frozenset({Class.DIFFERENT}),
        actions=(Act.SET_LAKE_POSITION, Act.RESTORE_EVENTS),
        pod=1,
    ),
)
LAKE_SECOND = (
    Cell(
        damage="position moved forward",
        store=LAKE,
        do=lake.lake_forward,
        named=names(oltp_lake__order=Class.MISSING, log_manifests=Class.MISSING),
        may_also_be=frozenset({Class.STALE, Class.DIFFERENT}),
        actions=RESTORE,
    ),
)
LAKE_THIRD = (
    _in_lake(
        "set back; outbox and log have no more what followed",
        lake.lake_behind_everything,
        (Act.LOAD_CUTS,),
        log_positions=Class.DIFFERENT,
    ),
)

ROUNDS: tuple[Round, ...] = (
    Round(name="rows", cells=(*LAKE_CELLS, *OUTBOX_CELLS, *_of_read_models("rows")), families=BEFORE_BUILDS),
    Round(
        name="for people",
        cells=PEOPLE_CELLS,
        families=OWNER_FAMILIES,
    ),
    Round(name="tampered with", cells=TAMPERED_CELLS, families=OWNER_FAMILIES),
    Round(name="views, first", cells=VIEWS_FIRST, families=BEFORE_BUILDS),
    Round(name="views, second", cells=VIEWS_SECOND, families=BEFORE_BUILDS),
    Round(name="views, third", cells=_of_read_models("views, third"), families=BEFORE_BUILDS),
    Round(name="carts and cache", cells=_of(SERVING, "carts and cache"), families=SERVED),
    Round(name="log", cells=LOG_CELLS, families=BEFORE_BUILDS),
    Round(name="log emptied", cells=(EMPTIED_LOG,), families=BEFORE_BUILDS),
    Round(
        name="poison",
        cells=_of_read_models("poison"),
        families=BEFORE_BUILDS,
    ),
    Round(name="webhooks", cells=_of([WEBHOOKS], "webhooks"), families=WEBHOOKS.found_by),
    Round(name="lake, first", cells=LAKE_FIRST, families=BEFORE_BUILDS),
    Round(name="lake, second", cells=LAKE_SECOND, families=BEFORE_BUILDS),
    Round(name="lake, third", cells=LAKE_THIRD, families=BEFORE_BUILDS),
    Round(name="marts", cells=MART_CELLS, families=MARTS),
    Round(
        name="a mart emptied",
        cells=(EMPTIED,),
        families=MARTS,
    ),
)
"""In this order, because later rounds damage what earlier rounds need: the lake after the views, the warehouse last."""
WITHOUT_BUILDS = tuple(one for one in ROUNDS if one.families != MARTS)
