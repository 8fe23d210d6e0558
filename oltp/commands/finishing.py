"""The end of a command's transaction: its answer is stored under its key, and everything is committed.

Belongs here: these last statements. Does not belong here: the format of an answer (`answers.py`), finding a stored one
(`execute.py`).
"""

from __future__ import annotations

from typing import Any

from oltp.commands.answers import encoded
from oltp.transaction import CommandTransaction

_ANSWER = b"""
update oltp.idempotency_keys set response = %s::json
where merchant_id = %s and idempotency_key = %s
"""


def store_answer(tx: CommandTransaction, merchant_id: str, answer: Any) -> None:
    """Store the answer under the key that the transaction has claimed."""
    tx.query(_ANSWER, (bytes(encoded(answer)).decode(), merchant_id, tx.idempotency_key))


def commit(tx: CommandTransaction) -> None:
    """Queue the kept-back statements and the commit; the end of the pipeline waits for them and raises their errors."""
    tx.send_last()
    tx.connection.execute(b"commit", prepare=False)
