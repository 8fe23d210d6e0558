"""Bodies of real processes that a test kills: a relay, and a consumer that records.

Belongs here: what runs in the child. Does not belong here: when it dies (`tests/scenario/test_relay_kills.py`).
"""

from __future__ import annotations

import threading

from streams.consumer import Consumer
from streams.valkey_log import ValkeyLog
from tests.streams_support import Recorder, make_relay


def relay(dsn: str, log_url: str) -> None:
    """Publish until killed."""
    make_relay(dsn, ValkeyLog(log_url)).run(threading.Event())


def consume(recorder_dsn: str, log_url: str) -> None:
    """Apply until killed, in small steps."""
    Consumer(Recorder(recorder_dsn), "pod1", ValkeyLog(log_url), events_max=7).run(threading.Event())
