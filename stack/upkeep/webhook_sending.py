"""The worker of webhooks of one pod: a consumer that notes what must be told, and beside it a sender.

Belongs here: running both, and ending both together. Does not belong here: what they do (`derived/webhooks/`).
"""

from __future__ import annotations

import threading

from contracts.ownership import WEBHOOKS
from contracts.settings import Settings
from derived.webhooks.following import build
from derived.webhooks.sending import run_sending
from stack.composition.webhook_sending import sending_of
from streams.consumer import run_consumer


def run_webhooks(settings: Settings, pod: str, stop: threading.Event) -> None:
    """Note and send until `stop`; when one ends by an error, so does the other, and the worker is started again."""
    ending = threading.Event()
    how = sending_of(settings, pod)

    def send() -> None:
        try:
            run_sending(how, ending)
        finally:
            # A sender that ended before it was told to must not leave a worker that looks well.
            stop.set()

    sender = threading.Thread(target=send, name=f"webhooks-{pod}")
    sender.start()
    try:
        run_consumer(build(settings), pod, settings, stop, events_max=WEBHOOKS.step_events_max)
    finally:
        ending.set()
        sender.join()
