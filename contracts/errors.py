"""Every error that Tieout raises on purpose, and nothing else.

The tree (a caller catches the widest class it can act on)::

    TieoutError
    ├── SettingsError              a setting is missing or wrong; the program stops before it does anything
    ├── InputError                 what the caller sent is wrong (HTTP 400, exit code 2)
    │   └── NotFoundError          what the caller named does not exist (404)
    ├── ConflictError              right in itself, but not in the present state (409)
    │   ├── IdempotencyConflictError
    │   ├── IllegalTransitionError
    │   ├── InsufficientStockError
    │   ├── NotRestatableError     what the tables hold cannot be stated as an event; people decide
    │   ├── OverCaptureError
    │   ├── OverRefundError
    │   ├── PeriodNotReadyError    a month cannot be closed yet; it says everything that stands in the way
    │   └── PodFencedError
    ├── GatewayError               the payment provider did not answer, or as below
    │   ├── GatewayAmountError     it took another amount under this key earlier; nothing is recorded
    │   └── GatewayDeclinedError   it answered, and said no: repeating will not help
    ├── PropagationError           the way from the outbox to the copies is not as it must be; people look
    │   ├── EpochChangedError
    │   ├── LogDivergedError
    │   ├── LogGapError
    │   ├── ManifestMismatchError
    │   └── RelayBusyError
    ├── UnbalancedImportError      what an import booked and rejected is not what it read; its report is wrong
    ├── WarehouseError             the warehouse could not be built or asked
    │   └── UnprovenBuildError     it was built, and tests of what it holds fail; it is looked at, and proves nothing
    ├── StackError                 a server could not be started or reached
    │   ├── LogUnavailableError    the log does not answer, refuses, or is full: what passes by waiting
    │   └── HistoryUnknownError    nobody who could tell whether the database was set back answers; asked again
    ├── ComparisonError            a comparison could not be made; its verdict is unknown
    └── LateError                  nothing was compared, because a copy is further behind than it may be

An error's message is one sentence for the person who reads it: what was wrong, where, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class TieoutError(Exception):
    """Something that Tieout foresaw went wrong."""


class SettingsError(TieoutError):
    """A setting is missing or wrong."""


class InputError(TieoutError):
    """What the caller sent is wrong."""


class NotFoundError(InputError):
    """What the caller named does not exist."""


class ConflictError(TieoutError):
    """The request is well formed but does not fit the present state."""


class IdempotencyConflictError(ConflictError):
    """The same idempotency key came with another body."""


class IllegalTransitionError(ConflictError):
    """The state machine does not allow this step from the present state."""


class InsufficientStockError(ConflictError):
    """Fewer units are available than were asked for."""


class NotRestatableError(ConflictError):
    """What the tables hold of an aggregate cannot be stated again as an event."""


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


class GatewayError(TieoutError):
    """The payment provider declined or did not answer."""


class GatewayAmountError(GatewayError):
    """The payment provider moved another amount for this key than is to be recorded; a person or caller decides."""


class GatewayDeclinedError(GatewayError):
    """The payment provider answered and declined; the same request again gets the same answer."""


class PropagationError(TieoutError):
    """The way from the outbox to the copies is not as it must be."""


class EpochChangedError(PropagationError):
    """The pod's database is not the one whose cuts the log holds."""


class LogDivergedError(PropagationError):
    """The log holds something else under an id than what the outbox gives for it."""


class LogGapError(PropagationError):
    """A manifest names an entry that the log no longer holds."""


class ManifestMismatchError(PropagationError):
    """An entry's events do not have the count or checksum that its manifest states."""


class RelayBusyError(PropagationError):
    """Another relay holds the pod's relay lock."""


class UnbalancedImportError(TieoutError):
    """What an import booked and rejected does not add up to what it read."""


class WarehouseError(TieoutError):
    """The warehouse could not be built or asked."""


class UnprovenBuildError(WarehouseError):
    """All models were built, and tests of them fail: what differs can be found in it, and nothing is proven by it."""

    def __init__(self, message: str, cuts: Mapping[str, int]) -> None:
        super().__init__(message)
        self.cuts = dict(cuts)
        """Where the warehouse stands."""


class StackError(TieoutError):
    """A server could not be started or reached."""


class LogUnavailableError(StackError):
    """The log does not answer, refuses what it is asked, or takes no entries."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """What its server said, or the way to it, without the sentence around it."""


class HistoryUnknownError(StackError):
    """Whether a pod's database goes on from what was published could not be found out."""


class ComparisonError(TieoutError):
    """A comparison could not be made; its verdict is unknown."""


class LateError(TieoutError):
    """The copy is further behind than it may be; nothing was compared."""
