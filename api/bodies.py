"""Reading a request's body: its size, its type, its depth, and the struct that the route declares.

Belongs here: what is refused before a handler runs. Does not belong here: limits of fields, which the command checks
(`oltp/commands/checking.py`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from contracts.errors import BodyTooLargeError, InputError, UnparsableBodyError, WrongContentTypeError

BODY_BYTES_MAX = 1 << 20
"""The largest body: an order of 5,000 lines needs less than half of it."""
DEPTH_MAX = 16
"""How deep arrays and objects may nest."""


BODY_SECONDS_MAX = 30.0
"""How long a client may take to send a body; a place for its key is held meanwhile."""


async def read_body(request: Request) -> bytes:
    """Return the body; BodyTooLargeError as soon as it is too large, without reading the rest."""
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await _read(request)
    except TimeoutError:
        raise UnparsableBodyError(f"The body was not there within {BODY_SECONDS_MAX:g} s.") from None


async def _read(request: Request) -> bytes:
    stated = request.headers.get("content-length", "")
    if stated.isascii() and stated.isdigit() and int(stated[:20]) > BODY_BYTES_MAX:
        raise _too_large()
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise _too_large()
            parts.append(part)
    except ClientDisconnect:
        raise UnparsableBodyError("The body ended before all of it was sent.") from None
    return b"".join(parts)


def require_json(content_type: str) -> None:
    """Raise WrongContentTypeError unless the header declares JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise WrongContentTypeError("The body must be sent with Content-Type: application/json.")


def parsed(body: bytes, kind: type[Any]) -> Any:
    """Return the body as a value of `kind`; UnparsableBodyError names the field that does not fit."""
    require_shallow(body)
    try:
        body.decode()  # msgspec passes over what is in fields that nobody reads
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnparsableBodyError(f"The body does not fit: {_sentence(error)}.") from None


def parsed_query(values: dict[str, str], kind: type[Any]) -> Any:
    """Return the query's parameters as a value of `kind`; InputError names the one that does not fit."""
    try:
        return msgspec.convert(values, type=kind, strict=False)
    except msgspec.MsgspecError as error:
        raise InputError(f"The query does not fit: {_sentence(error)}.") from None


def require_shallow(body: bytes) -> None:
    """Raise BodyTooLargeError when the JSON nests deeper than DEPTH_MAX."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    depth, is_text, is_escaped = 0, False, False
    for byte in body:
        if is_text:
            if is_escaped:
                is_escaped = False
            elif byte == 0x5C:
                is_escaped = True
            elif byte == 0x22:
                is_text = False
        elif byte == 0x22:
            is_text = True
        elif byte in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise BodyTooLargeError(f"The body nests deeper than {DEPTH_MAX} levels.")
        elif byte in b"]}":
            depth -= 1


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".") or "it nests too deeply"


def _too_large() -> BodyTooLargeError:
    return BodyTooLargeError(f"The body has more than {BODY_BYTES_MAX:,} bytes.")
