"""Every error that Tieout raises on purpose, and nothing else.

The tree (a caller catches the widest class it can act on)::

    TieoutError
    ├── SettingsError              a setting is missing or wrong; the program stops before it does anything
    ├── InputError                 what the caller sent is wrong (HTTP 400, exit code 2)
    │   └── NotFoundError          what the caller named does not exist (404)
    │       └── SessionUnknownError  its customer must sign in again
    ├── RequestError               an HTTP request is refused before any command is tried (`api/`)
    │   ├── BodyTooLargeError
    │   ├── DeadlineError          the answer was not there in time; the command may have run all the same
    │   ├── ForbiddenError         the key is valid, its role may not do this
    │   ├── KeyMissingError        a command came without an idempotency key
    │   ├── OverloadedError        the process has as much work of this class as it takes
    │   ├── PreconditionError      the resource has another version than the caller named
    │   ├── SignatureError         a notification is not signed by the payment provider, or was not a moment ago
    │   ├── TooManyRequestsError   one key asks more often than it may
    │   ├── UnauthenticatedError
    │   ├── UnknownPathError
    │   ├── UnparsableBodyError
    │   ├── WrongContentTypeError
    │   └── WrongMethodError
    ├── ConflictError              well formed, but the present state does not allow it (409)
    │   ├── CartChangedError       what a cart would cost or can get is not what its shopper has confirmed
    │   ├── CommandUnderWayError   the same command runs at this moment, or its provider has not answered yet
    │   ├── ContendedError         other commands changed the same rows, again and again
    │   ├── IdempotencyConflictError
    │   ├── IllegalTransitionError
    │   ├── InsufficientBalanceError
    │   ├── InsufficientStockError
    │   ├── NotRestatableError     the rows of an aggregate cannot be written as an event; a person decides
    │   ├── OverCaptureError
    │   ├── OverRefundError
    │   ├── PeriodNotReadyError    a month cannot be closed yet; the error lists all reasons
    │   └── PodFencedError
    ├── CartUnreadableError        the stored state of one cart cannot be read; the others can
    ├── GatewayError               the payment provider did not answer, or one of the cases below
    │   ├── GatewayAmountError     it moved another amount for this key earlier; nothing is recorded
    │   └── GatewayDeclinedError   it declined; a retry gets the same answer
    ├── PropagationError           events cannot get from the outbox to the copies; a person must look
    │   ├── EpochChangedError
    │   ├── LogDivergedError
    │   ├── LogGapError
    │   ├── ManifestMismatchError
    │   └── RelayBusyError
    ├── UnbalancedImportError      what an import booked and rejected does not add up to what it read
    ├── WarehouseError             the warehouse could not be built or read
    │   └── UnprovenBuildError     it was built, but tests of its rows fail; it may be read, but proves nothing
    ├── StackError                 a server could not be started or reached
    │   ├── CacheUnavailableError  the cache does not answer in time; whoever asked goes on without it
    │   ├── CartUnavailableError   neither store of carts can serve it, or the queue between them is full
    │   ├── LogUnavailableError    the log does not answer, refuses, or its memory is full; a later retry can succeed
    │   └── HistoryUnknownError    no store answers that knows whether the pod's database was restored; retried
    ├── ComparisonError            a comparison could not be made; its verdict is unknown
    └── LateError                  nothing was compared, because a copy lags more than the contract allows

An error's message is one sentence for the person who reads it: what was wrong, where, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class TieoutError(Exception):
    """Base class of every error that Tieout raises on purpose."""


class SettingsError(TieoutError):
    """A setting is missing or wrong."""


class InputError(TieoutError):
    """What the caller sent is wrong."""


class NotFoundError(InputError):
    """What the caller named does not exist."""


class SessionUnknownError(NotFoundError):
    """The session does not exist, or not any more."""


class ConflictError(TieoutError):
    """The request is well formed but does not fit the present state."""


class CartChangedError(ConflictError):
    """What a cart would cost or can get is not what its shopper has confirmed."""

    def __init__(self, message: str, *, changes: Sequence[Mapping[str, object]], total_minor: int | None) -> None:
        super().__init__(message)
        self.changes = tuple(changes)
        """One per SKU or amount that differs: what, as confirmed, as it is now."""
        self.total_minor = total_minor
        """What an order of the cart would cost now; None while something in it cannot be sold."""


class RequestError(TieoutError):
    """An HTTP request is refused before any command is tried."""


class BodyTooLargeError(RequestError):
    """The body has more bytes, or nests deeper, than a request may."""


class DeadlineError(RequestError):
    """The answer was not there within the route's deadline; a command may have run, so repeat it with the same key."""


class ForbiddenError(RequestError):
    """The key is valid, but its role may not do this."""


class KeyMissingError(RequestError):
    """A command came without the header Idempotency-Key."""


class OverloadedError(RequestError):
    """The process has as much work of this class as it takes."""


class PreconditionError(RequestError):
    """The resource has another version than the one that the header If-Match names."""


class SignatureError(RequestError):
    """The request is not signed with the payment provider's secret, or was not signed a moment ago."""


class TooManyRequestsError(RequestError):
    """One key asks more often, or for more at once, than it may."""


class UnauthenticatedError(RequestError):
    """The request has no key, or a key that is unknown, revoked or expired."""


class UnknownPathError(RequestError):
    """No route has this path."""


class UnparsableBodyError(RequestError):
    """The body is no JSON of the declared form."""


class WrongContentTypeError(RequestError):
    """The body is not declared as JSON."""


class WrongMethodError(RequestError):
    """The path has no route with this method; the header Allow names those it has."""


class CommandUnderWayError(ConflictError):
    """A command with the same idempotency key is under way."""


class ContendedError(ConflictError):
    """Other commands changed the same rows at the same time, again and again."""


class IdempotencyConflictError(ConflictError):
    """The same idempotency key came with another body."""

    def __init__(self, message: str, *, fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)
        """The command's fields that differ; empty when the key was stored before we kept this."""


class IllegalTransitionError(ConflictError):
    """The state machine does not allow this step from the present state."""


class InsufficientBalanceError(ConflictError):
    """More would be spent than a gift card holds."""


class InsufficientStockError(ConflictError):
    """Fewer units are available than were asked for."""


class NotRestatableError(ConflictError):
    """The rows of an aggregate cannot be written as an event."""


class OverCaptureError(ConflictError):
    """More would be captured than was authorized."""


class OverRefundError(ConflictError):
    """More would be refunded than was captured, for the payment or for one line."""


class PeriodNotReadyError(ConflictError):
    """A period cannot be closed yet."""

    def __init__(self, period: str, reasons: Sequence[str]) -> None:
        self.period = period
        self.reasons = tuple(reasons)
        super().__init__(f"{period} cannot be closed: {'; '.join(self.reasons)}.")


class PodFencedError(ConflictError):
    """The merchant does not live in this pod, or the directory epoch has moved on."""


class CartUnreadableError(TieoutError):
    """The stored state of one cart cannot be read."""


class GatewayError(TieoutError):
    """The payment provider declined or did not answer."""


class GatewayAmountError(GatewayError):
    """The payment provider moved another amount for this key than the one to record; a person or the caller decides."""


class GatewayDeclinedError(GatewayError):
    """The payment provider declined; the same request gets the same answer again."""


class PropagationError(TieoutError):
    """Events cannot get from the outbox to the copies; a person must look, or another process must end."""


class EpochChangedError(PropagationError):
    """The pod's database is not the one whose cuts the log holds."""


class LogDivergedError(PropagationError):
    """Under one id, the log holds other events than the outbox."""


class LogGapError(PropagationError):
    """A manifest names an entry that the log no longer holds."""


class ManifestMismatchError(PropagationError):
    """An entry's events do not have the count or checksum that its manifest states."""


class RelayBusyError(PropagationError):
    """Another relay holds the pod's relay lock."""


class UnbalancedImportError(TieoutError):
    """The booked and the rejected rows of an import do not add up to the rows that it read."""


class WarehouseError(TieoutError):
    """The warehouse could not be built or read."""


class UnprovenBuildError(WarehouseError):
    """All models were built, but tests of their rows fail. Comparisons may read the build, but it proves nothing."""

    def __init__(self, message: str, cuts: Mapping[str, int]) -> None:
        super().__init__(message)
        self.cuts = dict(cuts)
        """Pod -> the cut up to which the warehouse was built."""


class StackError(TieoutError):
    """A server could not be started or reached."""


class CacheUnavailableError(StackError):
    """The cache of answers does not answer in time, or refuses what it is asked."""


class CartUnavailableError(StackError):
    """Neither store of carts can serve this cart, or the queue between them is full."""


class LogUnavailableError(StackError):
    """The log does not answer, refuses what it is asked, or takes no entries."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """What its server said, or the way to it, without the sentence around it."""


class HistoryUnknownError(StackError):
    """No store could tell whether a pod's database continues the cuts that were published."""


class ComparisonError(TieoutError):
    """A comparison could not be made; its verdict is unknown."""


class LateError(TieoutError):
    """The copy lags more than the contract allows; nothing was compared."""
