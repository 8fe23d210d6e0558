"""Sends one message to one endpoint over HTTP, and says whether the endpoint has it.

Whoever registers an endpoint chooses where this process connects to. So a name is looked up here, all of its addresses
must be of the open internet, and the connection goes to one of those that were checked: a name that stands for another
address a moment later gains nothing. Redirects are not followed, proxies of the environment are not used, an answer's
body is not read. No address and no secret is in a reason: an address may hold a password of its receiver.

Belongs here: one attempt. Does not belong here: which message, when, and what becomes of it
(`derived/webhooks/sending.py`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, urlsplit

import httpx

from contracts.webhooks import (
    MESSAGE_ID,
    MESSAGE_SIGNATURE,
    MESSAGE_TIMESTAMP,
    is_public,
    secret_of,
    signature,
    url_problem,
)
from derived.webhooks.queue import Due

LOOKUPS_AT_ONCE = 32
USER_AGENT = "Tieout-Webhooks/1"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(Host, port) -> its addresses."""

for _name in ("httpx", "httpcore"):
    # They would log every address.
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of an attempt."""

    status: int | None
    """None: there was no answer."""
    reason: str = ""
    """Why the endpoint does not have the message; empty: it has."""

    @property
    def is_taken(self) -> bool:
        """Whether the endpoint has the message."""
        return not self.reason


@dataclass(kw_only=True)
class Poster:
    """Sends messages; a context manager, in one event loop."""

    master: bytes = field(repr=False)
    """What the endpoints' secrets are computed from."""
    open_hosts: Collection[str]
    timeout_seconds: float
    resolve: Resolve | None = None
    """None: the machine's resolver."""
    _client: httpx.AsyncClient = field(init=False, repr=False)
    _lookups: ThreadPoolExecutor = field(init=False, repr=False)

    async def __aenter__(self) -> Self:
        """Open the connections' pool."""
        # A kept connection would be shared by all names of its address, though it was made for one of them.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        # Nor is a cookie kept: it would go to whatever other merchant's endpoint has the same address.
        cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(trust_env=False, timeout=self.timeout_seconds, limits=limits, cookies=cookies)
        self._lookups = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="webhook-names")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def post(self, due: Due, body: bytes, now: datetime) -> Attempt:
        """Send a message and return whether it was taken. Raises nothing that the endpoint can cause."""
        if problem := url_problem(due.url, self.open_hosts):
            return Attempt(status=None, reason=f"its address {problem}")
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._post(due, body, now)
        except TimeoutError:
            return Attempt(status=None, reason=f"no answer within {self.timeout_seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Attempt(status=None, reason=f"no answer ({type(error).__name__})")

    async def _post(self, due: Due, body: bytes, now: datetime) -> Attempt:
        parts = urlsplit(due.url)
        url, extensions = due.url, {}
        if parts.hostname not in self.open_hosts:
            addresses = await self._addresses(parts)
            if not addresses or not all(map(is_public, addresses)):
                return Attempt(status=None, reason="its name does not stand for an address of the open internet")
            url, extensions = _at(parts, addresses[0]), {"sni_hostname": parts.hostname}
        headers = {**self._signed(due, body, now), "Host": parts.netloc, "Content-Type": "application/json"}
        async with self._client.stream(
            "POST", url, content=body, headers={**headers, "User-Agent": USER_AGENT}, extensions=extensions
        ) as response:
            return _attempt(response.status_code)

    def _signed(self, due: Due, body: bytes, now: datetime) -> dict[str, str]:
        """Return the headers by which the endpoint knows the message; two signatures while a secret is changed."""
        timestamp, message_id = int(now.timestamp()), due.event_id
        numbers = [due.secret_number]
        if due.earlier_until is not None and now < due.earlier_until and due.secret_number > 1:
            numbers.append(due.secret_number - 1)
        secrets = [secret_of(self.master, due.endpoint_id, number) for number in numbers]
        signatures = " ".join(signature(secret, message_id, timestamp, body) for secret in secrets)
        return {MESSAGE_ID: message_id, MESSAGE_TIMESTAMP: str(timestamp), MESSAGE_SIGNATURE: signatures}

    async def _addresses(self, parts: SplitResult) -> Sequence[str]:
        host, port = parts.hostname or "", parts.port or 443
        if self.resolve is not None:
            return await self.resolve(host, port)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(sockaddr[0]) for *_, sockaddr in found]


def _at(parts: SplitResult, address: str) -> str:
    """Return a URL with an address in the place of its name."""
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()


def _attempt(status: int) -> Attempt:
    if 200 <= status < 300:
        return Attempt(status=status)
    redirect = ", and redirects are not followed" if 300 <= status < 400 else ""
    return Attempt(status=status, reason=f"it answered {status}{redirect}")
