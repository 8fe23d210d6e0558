"""Types that threads decode: the first time must not be in two of them at once."""

from __future__ import annotations

import subprocess
import sys

from contracts.events import STATE_TYPES
from contracts.events.envelope import Envelope
from contracts.struct_types import KNOWN
from oltp.domain.provider_calls import ProviderCall
from oltp.domain.refunds import LineRefunds
from oltp.store import payments, provider_calls
from streams import valkey_log
from streams.log import Manifest, Progress

PROGRAM = """
import sys, threading
import msgspec
from contracts.events import STATE_TYPES
from contracts.events.envelope import Envelope
from streams import valkey_log
from streams.log import Manifest, Progress

sys.setswitchinterval(1e-6)
for kind in (Manifest, Progress, Envelope, *STATE_TYPES.values()):
    together = threading.Barrier(4)
    # What is looked at last is looked for first.
    text = msgspec.json.encode({name: {} for name in reversed(kind.__annotations__)})

    def decode(kind=kind, together=together, text=text):
        together.wait()
        try:
            msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError:
            pass

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_decode_the_same_type_for_the_first_time_and_the_process_lives() -> None:
    outcome = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_what_several_threads_decode_is_known_when_their_modules_are_imported() -> None:
    assert {module.__name__ for module in (payments, provider_calls, valkey_log)} <= sys.modules.keys()
    assert {*STATE_TYPES.values(), Envelope, Manifest, Progress, LineRefunds, ProviderCall} <= KNOWN
