"""Problem types (RFC 9457): how each error is told to a client over HTTP.

Belongs here: the table of statuses, and the page of each type. Does not belong here: the errors
(`contracts/errors.py`), writing an answer (`api/problems.py`).

A problem's type is ``/problems/<name>``, where the name comes from the error's class, e.g. ``insufficient-stock``. It
never changes: a client may decide by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from contracts import errors
from contracts.errors import TieoutError

PROBLEMS_PATH = "/problems"


@dataclass(frozen=True, kw_only=True)
class Told:
    """How the errors of a class and its subclasses are told: the HTTP status, and whether a retry may succeed."""

    status: int
    is_retryable: bool = False
    advice: str
    """What the client does next, in one or two sentences."""


_FIX = "Correct the request; the same request gets the same answer."
_LOOK = "Read the resource again and decide anew; the same request gets the same answer until the state changes."
_WAIT = "Repeat the request after some seconds, a command with the same Idempotency-Key."
_TELL = "Repeat the request later, a command with the same Idempotency-Key. If it stays, tell the operators."

TOLD: Mapping[type[TieoutError], Told] = {
    TieoutError: Told(status=500, advice="Tell the operators the request's id; the answer says nothing more."),
    errors.InputError: Told(status=400, advice=_FIX),
    errors.NotFoundError: Told(status=404, advice=_FIX),
    errors.ConflictError: Told(status=409, advice=_LOOK),
    errors.CartChangedError: Told(
        status=409,
        advice="Show the shopper what has changed (`changes`) and the new total, and check out again with what the "
        "shopper confirms, under a new Idempotency-Key.",
    ),
    errors.CommandUnderWayError: Told(status=409, is_retryable=True, advice=_WAIT),
    errors.ContendedError: Told(status=409, is_retryable=True, advice=_WAIT),
    errors.IdempotencyConflictError: Told(
        status=422,
        advice="Use a new Idempotency-Key for another command. The problem names the fields that differ from the "
        "command that used the key first.",
    ),
    errors.PodFencedError: Told(status=409, is_retryable=True, advice=_WAIT),
    errors.GatewayError: Told(status=502, is_retryable=True, advice=_WAIT),
    errors.GatewayAmountError: Told(
        status=409, advice="Nothing is recorded. Ask the merchant: the provider moved another amount for this key."
    ),
    errors.GatewayDeclinedError: Told(status=402, advice="Ask the customer for another way to pay."),
    errors.CartUnreadableError: Told(status=500, advice="Tell the operators the request's id and the cart."),
    errors.PropagationError: Told(status=503, is_retryable=True, advice=_TELL),
    errors.WarehouseError: Told(status=503, is_retryable=True, advice=_TELL),
    errors.StackError: Told(status=503, is_retryable=True, advice=_TELL),
    errors.ComparisonError: Told(status=503, is_retryable=True, advice=_TELL),
    errors.LateError: Told(status=503, is_retryable=True, advice=_TELL),
    errors.RequestError: Told(status=400, advice=_FIX),
    errors.BodyTooLargeError: Told(status=413, advice="Send less at once."),
    errors.DeadlineError: Told(
        status=504,
        is_retryable=True,
        advice="Repeat the command with the same Idempotency-Key: if it ran, you get its answer.",
    ),
    errors.ForbiddenError: Told(status=403, advice="Use a key of a role that may do this."),
    errors.KeyMissingError: Told(
        status=400,
        advice="Send the header Idempotency-Key with a new random value, and repeat the command with the same.",
    ),
    errors.OverloadedError: Told(
        status=503, is_retryable=True, advice="Wait as long as Retry-After says, then repeat."
    ),
    errors.PreconditionError: Told(status=412, advice=_LOOK),
    errors.SignatureError: Told(
        status=401,
        advice="Sign the exact bytes of the body with the present secret and the present time, and send it again.",
    ),
    errors.TooManyRequestsError: Told(
        status=429, is_retryable=True, advice="Wait as long as Retry-After says, then repeat."
    ),
    errors.UnauthenticatedError: Told(status=401, advice="Send a valid key: `Authorization: Bearer <key>`."),
    errors.UnknownPathError: Told(status=404, advice="Look at /v1/openapi.json for the paths there are."),
    errors.WrongContentTypeError: Told(
        status=415, advice="Send the body as JSON, with Content-Type: application/json."
    ),
    errors.WrongMethodError: Told(status=405, advice="Use a method that the header Allow names."),
}
"""A class that is not listed is told as its nearest listed base class, under its own name."""


@dataclass(frozen=True, kw_only=True)
class ProblemType:
    """One type of problem."""

    name: str
    title: str
    status: int
    is_retryable: bool
    advice: str

    @property
    def address(self) -> str:
        """The `type` of its problems: the path of its page."""
        return f"{PROBLEMS_PATH}/{self.name}"


def problem_type(error: type[TieoutError]) -> ProblemType:
    """Return how errors of this class are told."""
    told = next(TOLD[base] for base in error.__mro__ if base in TOLD)
    return ProblemType(
        name=_name(error),
        title=(error.__doc__ or "").partition("\n")[0].strip(),
        status=told.status,
        is_retryable=told.is_retryable,
        advice=told.advice,
    )


@cache
def problem_types() -> Mapping[str, ProblemType]:
    """Return every type by its name, in alphabetical order."""
    found = [problem_type(error) for error in _classes(TieoutError)]
    return {problem.name: problem for problem in sorted(found, key=lambda problem: problem.name)}


def page(problem: ProblemType) -> str:
    """Return the page of a type, as Markdown."""
    return (
        f"# {problem.name}\n\n{problem.title}\n\n"
        f"- Type: `{problem.address}`\n"
        f"- Status: {problem.status}\n"
        f"- A retry may succeed: {'yes' if problem.is_retryable else 'no'}\n\n"
        f"{problem.advice}\n"
    )


def _classes(root: type[TieoutError]) -> list[type[TieoutError]]:
    """Return the classes of the tree that `contracts/errors.py` draws."""
    below = [one for child in root.__subclasses__() if child.__module__ == errors.__name__ for one in _classes(child)]
    return [root, *below]


def _name(error: type[TieoutError]) -> str:
    words = re.findall(r"[A-Z][a-z]*", error.__name__.removesuffix("Error"))
    return "-".join(word.lower() for word in words) if error is not TieoutError else "internal-error"
