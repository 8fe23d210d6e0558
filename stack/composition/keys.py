"""The API keys of a system: its pepper, its store, and the keys that a stack on one machine begins with.

Belongs here: where the pepper and the first keys are kept. Does not belong here: the keys (`api/keys/`), who shows them
(`cli/commands/keys.py`).

The embedded stack makes a key of every role for its shops when it starts for the first time, so that the README's
requests work at once. Their texts are in a file that only its owner may read. With servers of your own no key is made.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from api.declaring import Role
from api.keys.store import KeyStore
from api.services import KEY_PURPOSE
from api.signing import derived_secret
from contracts.settings import Settings
from stack import files, settings
from stack.composition.pepper import FOLDER, pepper_of
from traffic.shops import SHOPS

LABEL = "made by `tieout up`"


class ShownKey(msgspec.Struct, frozen=True, kw_only=True):
    """A first key with its text."""

    role: Role
    merchant_id: str | None
    text: str


def provider_secrets_of(values: Settings) -> tuple[str, ...]:
    """Return the secrets of the payment provider's notifications: the setting, or a generated one that is stored."""
    return values.provider_secrets or (files.stored_password(values.var_dir / FOLDER / "provider-secret"),)


def key_store(values: Settings) -> KeyStore:
    """Return the keys of this system, for a command that connects once."""
    return KeyStore(control_dsn=values.control_dsn, pepper=derived_secret(pepper_of(values), KEY_PURPOSE))


def first_keys(values: Settings) -> list[ShownKey]:
    """Return the keys that `make_first_keys` made; empty when there are none."""
    path = _file(values)
    return msgspec.json.decode(path.read_bytes(), type=list[ShownKey]) if path.exists() else []


def make_first_keys(values: Settings) -> None:
    """Make a key of each role for every shop of the generator, and one for an operator, the first time."""
    # Before the workers that need it start: two at once could each make one.
    pepper_of(values)
    if settings.is_external():
        return
    store, known = key_store(values), first_keys(values)
    if known and store.find(known[-1].text) is not None:
        # The file alone does not say so, because the control database may have been set back.
        return
    wanted: list[tuple[Role, str | None]] = [
        (role, shop.merchant_id) for shop in SHOPS for role in (Role.STOREFRONT, Role.ADMIN)
    ]
    made = [
        ShownKey(role=role, merchant_id=merchant_id, text=store.create(role, merchant_id, LABEL).text or "")
        for role, merchant_id in [*wanted, (Role.OPERATOR, None)]
    ]
    files.write_private(_file(values), msgspec.json.encode(made).decode())


def _file(values: Settings) -> Path:
    return values.var_dir / FOLDER / "first-keys.json"
