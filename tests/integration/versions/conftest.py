"""The fixtures of servers, for every other version of PostgreSQL that this machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oltp.store.migrate import migrate
from stack.servers import bootstrap
from tests.conftest import Cluster
from tests.other_postgres import SETTING, OtherPostgres, other_installations

INSTALLATIONS = other_installations()


@pytest.fixture(scope="session", params=[*INSTALLATIONS, *([] if INSTALLATIONS else [None])])
def postgres(request: pytest.FixtureRequest, session_folder: Path) -> Iterator[Cluster]:
    """A running PostgreSQL of another version, with the same roles."""
    version = request.param
    if version is None:
        pytest.skip(f"this machine has no PostgreSQL 15 to 17; name the folder of its programs in {SETTING}")
    folder = session_folder / f"postgres{version}"
    server = OtherPostgres(
        name=f"postgres{version}",
        folder=folder,
        log=session_folder / f"postgres{version}.log",
        is_durable=False,
        installation=INSTALLATIONS[version],
        version=version,
    )
    roles = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE, *(item.role for item in bootstrap.CONTROL_DATABASES))
    passwords = {role: f"{role}-password" for role in roles}
    try:
        server.start()
        bootstrap.create_roles(server.superuser_dsn(), passwords)
        bootstrap.let_look(server.superuser_dsn())
        bootstrap.let_decode(server.superuser_dsn(), bootstrap.WITNESS_ROLE)
        cluster = Cluster(server=server, passwords=passwords)
        yield cluster
        cluster.close()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def pod_template(postgres: Cluster) -> str:
    """The name of a migrated pod database on that server."""
    owner = bootstrap.POD_ROLES[0]
    template = postgres.create("template_pod", owner=owner)
    bootstrap.allow_connections(postgres.superuser_dsn(), template, bootstrap.POD_ROLES)
    bootstrap.reserve_relay_lock(postgres.superuser_dsn(), template)
    migrate(postgres.dsn(owner, template))
    return template
