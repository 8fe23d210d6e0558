"""The worker that serves the HTTP interface: its parts from settings, and its server until it is told to stop.

Belongs here: what `api/` is handed from the stack, and the server. Does not belong here: routes (`api/`).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from api.app import build_app
from api.services import build_services
from contracts.settings import Settings
from stack.composition.keys import provider_secrets_of
from stack.composition.pepper import pepper_of
from stack.ports import LOOPBACK
from stack.upkeep.operations import build_operations

GRACE_SECONDS = 10
"""How long requests may go on after the worker was told to stop."""


class Server(uvicorn.Server):
    """A server that leaves signals to its worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def run_api(settings: Settings, stop: threading.Event, *, port: int) -> None:
    """Serve the interface of these settings until `stop` is set."""
    services = build_services(
        settings,
        pepper_of(settings),
        operations=build_operations(settings),
        provider_secrets=provider_secrets_of(settings),
    )
    serve(build_app(services), stop, port=port, is_shared=settings.api_processes > 1)


def serve(app: FastAPI, stop: threading.Event, *, port: int, is_shared: bool = False) -> None:
    """Serve an application on loopback until `stop` is set; requests that have begun are answered.

    `is_shared`: other processes serve on the same port; the kernel divides the connections among them.
    """
    server = Server(
        uvicorn.Config(
            app,
            host=LOOPBACK,
            port=port,
            loop="uvloop",
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    threading.Thread(target=_stop_with, args=(server, stop), daemon=True).start()
    server.run(sockets=[_shared_socket(port)] if is_shared else None)


def _shared_socket(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((LOOPBACK, port))
    return listening


def _stop_with(server: uvicorn.Server, stop: threading.Event) -> None:
    stop.wait()
    server.should_exit = True
