"""Running a command: one transaction, once per idempotency key, with typed errors.

    with build_command_pod(settings.pod("pod1"), control_dsn=settings.control_dsn) as pod:
        order = execute(pod, PlaceOrder(...), idempotency_key="checkout-4711")

Belongs here: opening the transaction, claiming the key, committing, retrying, and mapping database errors to domain
errors. Does not belong here: any use case.

How a repeated key is recognised: the first statement inserts the key. A concurrent command with the same key waits in
that insert until the first transaction ends. Then it finds the stored answer or, when the first one failed, continues
itself. The answer is stored in the transaction that does the work, so effect and answer always commit together.

What this does not cover: a command that failed has stored nothing, so its key may be used again, also with another
body. A key is kept for its lease (`oltp/idempotency_keys.py`); the key of an import is kept permanently. A client that
repeats a command after the lease runs it a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, get_args

import msgspec
import psycopg
from msgspec.structs import replace
from psycopg import errors
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg.types.string import TextLoader
from psycopg_pool import ConnectionPool, PoolTimeout

from contracts.clock import Clock, utc_now
from contracts.errors import (
    CommandUnderWayError,
    ConflictError,
    ContendedError,
    IdempotencyConflictError,
    PodFencedError,
    StackError,
)
from contracts.ids import NewId, uuid7
from contracts.limits import MERCHANT_ID, MerchantReference
from contracts.settings import PodSettings
from oltp.commands.answers import decoded
from oltp.commands.body import differing_fields, has_body
from oltp.commands.checking import check_value
from oltp.commands.finishing import commit_with_answer
from oltp.commands.requests import Request, request_of
from oltp.directory import Directory
from oltp.gateway import EmbeddedGateway, PaymentGateway
from oltp.pipelining import buffered_pipeline
from oltp.store.arrays import Array, ArrayDumper
from oltp.store.constraints import domain_error
from oltp.transaction import CommandTransaction, Expected, Notes, Row

Answer = TypeVar("Answer")

ATTEMPTS_MAX = 5
"""How many times a transaction is tried when the server aborts it (serialization failure, deadlock, lost connection).
"""

CONNECT_SECONDS_MAX = 15.0
"""Seconds that a command waits for a connection from the pool."""

_PLANNING = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
"""Every statement of a command is a lookup by key. A plan prepared while a table was small uses a sequential scan and
stays cached when the table grows. Measured on growing tables, the server needs 1.4 to 3 times as long without this
setting."""

_REPEATABLE = (errors.SerializationFailure, errors.DeadlockDetected)

_CLAIM = b"""
with claimed as (
    insert into oltp.idempotency_keys (merchant_id, idempotency_key, command, body_hash, is_kept, field_hashes)
    values (%s, %s, %s, %s, %s, %s)
    on conflict do nothing
    returning true
)
select
    exists (select from claimed),
    (select directory_epoch from oltp.residents where merchant_id = %s),
    pg_current_xact_id()::text::bigint"""
END_OF_LOG = "select pg_current_wal_insert_lsn()::text"
_STORED = """
select command, body_hash, response::text, field_hashes::text from oltp.idempotency_keys
where merchant_id = %(merchant_id)s and idempotency_key = %(key)s
"""


class Command(msgspec.Struct, Generic[Answer], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request of one merchant. A subclass adds its fields and implements `run`.

    The type parameter is the answer's type: `Command[OrderState]` answers with an order. Answers are stored as JSON, so
    any msgspec type works.
    """

    REGISTERS: ClassVar[bool] = False
    """Whether it adds its merchant to the pod; for every other command the merchant must live there already."""
    IS_BATCHABLE: ClassVar[bool] = False
    """Whether it may share a transaction with commands of other aggregates: it must write only through `save_all`."""
    ASKS_PROVIDER: ClassVar[bool] = False
    """Whether it asks the payment provider (`oltp/commands/asking.py`)."""

    ADDED_LATER: ClassVar[frozenset[str]] = frozenset()
    """Fields (each with a default) that were added after body hashes were first stored (`body.py`)."""
    COMPARED_LATER: ClassVar[frozenset[str]] = frozenset()
    """Those of them that requests had already carried before, beside the command. Repeated after a deployment, such a
    request is still the same."""

    merchant_id: MerchantReference

    def foresee(self) -> tuple[bytes, Sequence[Any]] | None:
        """Return what `run` will need, as subqueries and their parameters: they are read by the claim of the key.

        Only reads that lock nothing; `run` finds them in `tx.foreseen`. When the key is taken, nobody looks at them.
        """
        return None

    def run(self, tx: CommandTransaction) -> Answer:
        """Do the work inside `tx` and return the answer; a ConflictError or InputError rolls it back."""
        raise TypeError(f"{type(self).__name__} does not say how it runs.")

    def attempt(self, pod: CommandPod, request: Request) -> Answer:
        """Run once in one transaction, or return the answer that is stored under the key."""
        with transaction_of(pod, request) as opened:
            tx = claim(opened, self, request)
            if tx is None:
                return stored_answer(opened, self)
            answer = self.run(tx)
            commit_with_answer(tx, self.merchant_id, answer)
            end_of_log = tx.query(END_OF_LOG) if tx.notes is not None and tx.xid else None
        if tx.notes is not None and end_of_log is not None and (row := end_of_log.fetchone()):
            tx.notes.lsn, tx.notes.xid = row[0], tx.xid
        return answer


@dataclass(frozen=True, kw_only=True)
class CommandPod:
    """A pod that runs commands. Thread-safe. Close it, or use it as a context manager."""

    pod: str
    connections: ConnectionPool[psycopg.Connection[Row]]
    gateway: PaymentGateway
    directory: Directory | None
    clock: Clock
    new_uuid: NewId

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()


def build_command_pod(
    pod: PodSettings,
    *,
    control_dsn: str | None = None,
    gateway: PaymentGateway | None = None,
    clock: Clock = utc_now,
    new_uuid: NewId = uuid7,
    connections_max: int = 8,
) -> CommandPod:
    """Return the pod with a pool of at most `connections_max` connections, which are opened on demand.

    `control_dsn`: the control database; its directory decides which merchants may register here. None: any merchant
    may.
    """
    connections: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
        pod.app_dsn,
        min_size=1,
        max_size=connections_max,
        timeout=CONNECT_SECONDS_MAX,
        kwargs={"options": f"-c timezone=UTC {_PLANNING}", "application_name": f"tieout-commands-{pod.pod}"},
        configure=_configure,
        open=True,
        name=f"commands-{pod.pod}",
    )
    return CommandPod(
        pod=pod.pod,
        connections=connections,
        gateway=gateway or EmbeddedGateway(),
        directory=Directory(control_dsn) if control_dsn is not None else None,
        clock=clock,
        new_uuid=new_uuid,
    )


def execute(
    pod: CommandPod,
    command: Command[Answer],
    *,
    idempotency_key: str,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    traceparent: str | None = None,
    occurred_at: datetime | None = None,
    notes: Notes | None = None,
    expects: Expected | None = None,
) -> Answer:
    """Run `command` and return its answer. Idempotent: the same key again returns the same answer without a new effect.

    Raises InputError for a field that breaks its type or limit (docs/commands.md), before anything is read or written;
    IdempotencyConflictError for the same key with another body; PodFencedError when the merchant does not live in this
    pod; the errors of the command; and StackError when the pod cannot be reached.

    `occurred_at` (timezone-aware) is given by imports only. Their keys are kept permanently, because a file may be
    imported again years later.

    `notes`: of a caller that tells its client more; the key then keeps a hash per field, so that a conflict names those
    that differ. `expects`: PreconditionError, and no effect, when the aggregate has another version.
    """
    request = request_of(
        pod,
        command,
        idempotency_key=idempotency_key,
        correlation_id=correlation_id,
        causation_id=causation_id,
        traceparent=traceparent,
        occurred_at=occurred_at,
        notes=notes,
        expects=expects,
    )
    return run_request(pod, command, request)


def run_request(pod: CommandPod, command: Command[Answer], request: Request) -> Answer:
    """Run a command as `execute` does; retry when the server aborted the transaction or the connection was lost."""
    failure: psycopg.Error | None = None
    for _ in range(ATTEMPTS_MAX):
        try:
            return command.attempt(pod, request)
        except _REPEATABLE as error:
            failure = error
        except psycopg.Error as error:
            if _is_lost(error):
                # The commit may have succeeded; the idempotency key makes a retry safe. Idle connections are probably
                # lost too.
                failure = error
                pod.connections.check()
                continue
            meaning = domain_error(error)
            if meaning is None:
                raise
            raise meaning from error
    raise _gave_up(pod, failure) from failure


@cache
def answer_type(command_type: type[Command[Any]]) -> Any:
    """Return the type of the answer of commands of this type."""
    answer, *_ = get_args(cast(Any, command_type).__orig_bases__[0])
    return answer


@contextmanager
def open_transaction(
    pod: CommandPod, command: Command[Any], idempotency_key: str, occurred_at: datetime | None
) -> Iterator[CommandTransaction]:
    """Open a transaction for this command. The caller's block must commit, else it is rolled back. No retries."""
    request = request_of(pod, command, idempotency_key=idempotency_key, occurred_at=occurred_at)
    with transaction_of(pod, request) as tx:
        yield tx


@contextmanager
def transaction_of(pod: CommandPod, request: Request) -> Iterator[CommandTransaction]:
    """Open a pipelined transaction; it is rolled back unless its block commits."""
    try:
        with pod.connections.connection() as connection, buffered_pipeline(connection) as pipeline:
            try:
                yield _command_transaction(pod, request, connection)
            except BaseException:
                # Statements sent after the failed one return "aborted"; we ignore these errors.
                with suppress(psycopg.Error):
                    pipeline.sync()
                raise
    except PoolTimeout:
        raise StackError(f"{pod.pod}'s database gave no connection within {CONNECT_SECONDS_MAX:.0f} s.") from None


def _command_transaction(pod: CommandPod, request: Request, connection: psycopg.Connection[Row]) -> CommandTransaction:
    return CommandTransaction(
        connection=connection,
        pod=pod.pod,
        gateway=pod.gateway,
        directory=pod.directory,
        idempotency_key=request.idempotency_key,
        correlation_id=request.correlation_id,
        causation_id=request.causation_id,
        traceparent=request.traceparent,
        occurred_at=request.occurred_at,
        new_uuid=pod.new_uuid,
        notes=request.notes,
        expects=request.expects,
    )


def claim(tx: CommandTransaction, command: Command[Any], request: Request) -> CommandTransaction | None:
    """Claim the key; return the transaction, which knows its merchant's residence now, or None: the key was taken."""
    names = (command.merchant_id, tx.idempotency_key, type(command).__name__)
    values = (*names, request.body_hash, request.is_kept, request.field_hashes, command.merchant_id)
    foreseen = command.foresee()
    subqueries, parameters = foreseen if foreseen is not None else (b"", ())
    row = tx.query(_claim_with(subqueries), (*values, *parameters)).fetchone()
    if row is None or not row[0]:
        return None
    if command.REGISTERS:
        return tx
    return residing(replace(tx, foreseen=row[3:]), command, row[1], xid=row[2])


@cache
def _claim_with(subqueries: bytes) -> bytes:
    return _CLAIM + b",\n    " + subqueries if subqueries else _CLAIM


def residing(
    tx: CommandTransaction, command: Command[Any], directory_epoch: int | None, *, xid: int = 0
) -> CommandTransaction:
    """Return the transaction of a command whose merchant lives here since `directory_epoch`; None: PodFencedError."""
    if directory_epoch is None:
        # Check the limit of the id only for unknown merchants: ids registered before the limits existed stay valid.
        check_value("merchant_id", command.merchant_id, MERCHANT_ID)
        raise PodFencedError(f"Merchant {command.merchant_id!r} does not live in {tx.pod}; the directory says where.")
    return replace(tx, directory_epoch=directory_epoch, xid=xid)


def stored_answer(tx: CommandTransaction, command: Command[Answer]) -> Answer:
    """Return the answer stored under a key that was claimed before; CommandUnderWayError while there is none yet."""
    answer = find_answer(tx, command)
    if answer is None:
        raise CommandUnderWayError(f"A command with idempotency key {tx.idempotency_key!r} is under way; try again.")
    return answer


def find_answer(tx: CommandTransaction, command: Command[Answer]) -> Answer | None:
    """Return the answer stored under a claimed key; None while its call to the provider is not finished."""
    row = tx.query(_STORED, {"merchant_id": command.merchant_id, "key": tx.idempotency_key}).fetchone()
    if row is None:
        raise errors.SerializationFailure("The idempotency key was removed at this moment.")
    command_name, stored_hash, response, hashes = row
    fields = msgspec.json.decode(hashes, type=dict[str, str]) if hashes else None
    if not has_body(command, stored_hash, fields):
        raise IdempotencyConflictError(
            f"Idempotency key {tx.idempotency_key!r} was used for a {command_name} with another body; use a new key.",
            fields=differing_fields(fields, command) if fields else (),
        )
    if response is None:
        return None
    if tx.notes is not None:
        tx.notes.is_replayed = True
    return cast(Answer, decoded(response, answer_type(type(command))))


def _is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection was lost or the server is stopping (SQLSTATE classes 08 and 57P)."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _gave_up(pod: CommandPod, failure: psycopg.Error | None) -> ConflictError | StackError:
    if isinstance(failure, _REPEATABLE):
        return ContendedError(f"{ATTEMPTS_MAX} attempts met other changes of the same rows; try again.")
    reason = str(failure).strip().splitlines()[0]
    return StackError(f"{pod.pod}'s database cannot be reached: {reason}")


def _configure(connection: psycopg.Connection[Row]) -> None:
    """Read uuids as text, as in events. Send every int as bigint, so that each statement is prepared only once."""
    connection.adapters.register_loader("uuid", TextLoader)
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.adapters.register_dumper(Array, ArrayDumper)
