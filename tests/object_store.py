"""An S3-compatible store on loopback, for tests: a bucket is a folder, an object a file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from contracts.object_store import ObjectStore
from contracts.waiting import comes_true
from stack import ports

KEY_ID, SECRET = "AKIATESTTESTTESTTEST", "a-secret/with+odd=characters'"
START_SECONDS_MAX = 60.0


@contextmanager
def running_store(folder: Path, *, buckets: tuple[str, ...]) -> Iterator[ObjectStore]:
    """Run a store with these buckets, its objects below `folder`."""
    for bucket in buckets:
        (folder / bucket).mkdir(parents=True)
    port = ports.free_port(None)
    key = {"NANIO_ACCESS_KEY": KEY_ID, "NANIO_SECRET_KEY": SECRET}
    command = ["serve", "--data-dir", str(folder), "--host", ports.LOOPBACK, "--port", str(port), "--no-access-log"]
    with (
        (folder.parent / "store.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "nanio", *command], env={**os.environ, **key}, stdout=log, stderr=log
        ) as server,
    ):
        try:
            _wait(port, server)
            yield ObjectStore(endpoint=f"http://{ports.LOOPBACK}:{port}", key_id=KEY_ID, secret=SECRET)
        finally:
            server.terminate()


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        assert server.poll() is None, "the object store ended; see store.log"
        with suppress(OSError):
            socket.create_connection((ports.LOOPBACK, port), timeout=1).close()
            return True
        return False

    assert comes_true(answers, seconds=START_SECONDS_MAX), "the object store did not start; see store.log"
