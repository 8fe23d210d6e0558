"""Commands as routes: the request's body is the command without what the key and the path already say.

    command_route("POST", "/v1/orders/{order_id}/cancellations", CancelOrder, "cancel_order", roles=ADMINS)

Belongs here: how a command becomes a route, and what its answer carries. Does not belong here: which commands are
offered to whom (`api/routes/`).
"""

from __future__ import annotations

import inspect
import re
from functools import partial
from typing import Any, get_type_hints

import msgspec

from api.calls import Answer, Call
from api.declaring import Criticality, Role, Route, Work
from api.pods import Done
from api.positions import HEADER as POSITION
from api.positions import token_of
from contracts.errors import ConflictError, TieoutError
from contracts.events.common import AggregateState
from contracts.limits import UUID
from oltp.commands.execute import Command, answer_type
from oltp.transaction import Expected

REPLAYED = "Idempotency-Replayed"
COMMAND_SECONDS = 15.0


def command_route(
    method: str,
    path: str,
    command: type[Command[Any]],
    name: str = "",
    *,
    roles: frozenset[Role],
    work: Work = Work.ADMIN,
    criticality: Criticality = Criticality.PAGE,
    status: int = 200,
    has_version: bool = False,
    raises: tuple[type[TieoutError], ...] = (ConflictError,),
) -> Route:
    """Return the route that runs `command`, by default with its name; the path's parameters are fields of it."""
    name = name or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", command.__name__).lower()
    given = tuple(re.findall(r"{(\w+)}", path))
    return Route(
        name=name,
        method=method,
        path=path,
        summary=_summary(name),
        description=inspect.getdoc(command) or "",
        handler=partial(_run, command, given),
        roles=roles,
        criticality=criticality,
        work=work,
        deadline_seconds=COMMAND_SECONDS,
        answer=answer_type(command),
        status=status,
        body=body_of(command, given),
        is_command=True,
        has_version=has_version,
        raises=raises,
        parameters={field: f"The {field.replace('_', ' ')}" for field in given},
    )


def _summary(name: str) -> str:
    return name.replace("_", " ").capitalize()


def body_of(command: type[Command[Any]], given: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return the struct of a command's body: its fields without the merchant and without `given`."""
    hints = get_type_hints(command, include_extras=True)
    fields: list[Any] = []
    for field in msgspec.structs.fields(command):
        if field.name == "merchant_id" or field.name in given:
            continue
        if field.default_factory is not msgspec.NODEFAULT:
            fields.append((field.name, hints[field.name], msgspec.field(default_factory=field.default_factory)))
        elif field.default is not msgspec.NODEFAULT:
            fields.append((field.name, hints[field.name], field.default))
        else:
            fields.append((field.name, hints[field.name]))
    return msgspec.defstruct(
        f"{command.__name__}Body",
        fields,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=command.__module__,
        namespace={"__doc__": command.__doc__},
    )


def command_of(command: type[Command[Any]], call: Call, **given: Any) -> Command[Any]:
    """Return the command that a call asks for: the merchant is the key's, whatever the body says."""
    body = {} if call.body is None else msgspec.structs.asdict(call.body)
    return command(merchant_id=call.merchant_id, **{**body, **given})


def done_answer(call: Call, done: Done, value: Any = None) -> Answer:
    """Return the answer to a command: its value, whether it is a stored one, and where the write is."""
    headers = {}
    if done.position is not None:
        headers[POSITION] = token_of(call.services.tokens, done.position)
    if done.is_replayed:
        headers[REPLAYED] = "true"
    version = done.answer.version if call.route.has_version and isinstance(done.answer, AggregateState) else None
    return Answer(value=done.answer if value is None else value, headers=headers, version=version)


def _run(command_type: type[Command[Any]], given: tuple[str, ...], call: Call) -> Answer:
    # Ids of things are UUIDs; a customer's id is the merchant's own text.
    hints = get_type_hints(command_type, include_extras=True)
    values = {name: call.uuid(name) if _is_uuid(hints[name]) else call.path[name] for name in given}
    command = command_of(command_type, call, **values)
    done = call.services.pods.execute(
        command, idempotency_key=call.idempotency_key, expects=_expected(command_type, call, values)
    )
    return done_answer(call, done)


def _expected(command_type: type[Command[Any]], call: Call, values: dict[str, str]) -> Expected | None:
    """Return what If-Match names: the aggregate that the command answers with."""
    if call.expected_version is None:
        return None
    state: type[AggregateState] = answer_type(command_type)
    aggregate_id = values.get(state.ID_FIELD, call.merchant_id)
    return Expected(aggregate_type=state.AGGREGATE_TYPE, aggregate_id=aggregate_id, version=call.expected_version)


def _is_uuid(hint: Any) -> bool:
    return UUID in getattr(hint, "__metadata__", ())
