"""A full disk, a server without connections: one sentence, nothing half written, and `up` stays to mend it later."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import duckdb
import psycopg
import pytest
import sqlalchemy.exc

from cli import app as command
from cli.commands.reports import write_file
from cli.console import ConsoleProgress
from cli.conventions import FAILED
from contracts.errors import StackError
from contracts.settings import Settings
from stack.files import write_private, write_whole
from stack.looking.outages import outage
from stack.processes import stopped
from stack.servers.postgres import EmbeddedPostgres
from stack.servers.unix_account import Account
from stack.upkeep import lifecycle

FULL = OSError(errno.ENOSPC, "No space left on device", "/var/tieout/lake/a.parquet")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FULL, "A disk is full (No space left on device: /var/tieout/lake/a.parquet)"),
        (psycopg.errors.DiskFull("could not extend file: No space left on device\nHINT: x"), "A disk is full (could"),
        (duckdb.IOException('Could not write "a": No space left on device'), "A disk is full"),
        (psycopg.OperationalError("FATAL: sorry, too many clients already"), "has no connection left"),
        (sqlalchemy.exc.OperationalError("select 1", {}, psycopg.OperationalError("gone")), "asked: gone. Look"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x may not be read or written by this account"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), "could not be read or written: No such file: /x"),
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"), "asked: cannot"),
        (psycopg.errors.InsufficientPrivilege("permission denied for schema trust"), "asked: permission denied"),
        (ValueError("a fault of the program"), None),
        (psycopg.errors.UndefinedColumn("a fault of the program"), None),
    ],
)
def test_an_outage_is_told_from_a_fault(error: Exception, said: str | None) -> None:
    sentence = outage(error)
    assert (sentence is None) if said is None else (sentence is not None and said in sentence and "\n" not in sentence)


def test_a_command_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(**_: object) -> NoReturn:
        raise FULL

    monkeypatch.setattr(command, "app", full)
    monkeypatch.setattr("sys.argv", ["tieout"])
    umask = os.umask(0o077)
    try:
        with pytest.raises(SystemExit) as ended:
            command.main()
    finally:
        os.umask(umask)
    assert ended.value.code == FAILED
    assert capsys.readouterr().err == (outage(FULL) or "") + "\n"


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    write_file(path, b"the old one")
    path.chmod(0o644)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(StackError, match=r"report\.csv cannot be written: File too large"):
            write_file(path, bytes(100_000))
        with pytest.raises(OSError, match="File too large"):
            write_private(tmp_path / "settings.env", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [path]
    write_file(path, b"the new one")
    assert path.read_bytes() == b"the new one" and path.stat().st_mode & 0o777 == 0o644
    write_whole(Path(os.devnull), b"a device is written to")
    assert Path(os.devnull).is_char_device()


def test_what_cannot_be_mended_now_is_tried_again_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = cast("Settings", SimpleNamespace(var_dir=tmp_path))
    monkeypatch.setattr(lifecycle, "scrubber", lambda _: str)
    said: list[str] = []
    asked: list[bool] = []
    answers = iter([FULL, StackError("pod1 did not start"), None, None, KeyboardInterrupt()])

    def mend(values: Settings, *, is_doubtful: bool, **_: object) -> Settings:
        asked.append(is_doubtful)
        said.append(stopped.of_servers(tmp_path))
        answer = next(answers)
        if answer is not None:
            raise answer
        return values

    notes: list[str] = []
    monkeypatch.setattr(lifecycle, "mend", mend)
    monkeypatch.setattr(lifecycle, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(ConsoleProgress, "note", lambda _self, text: notes.append(text))
    with pytest.raises(KeyboardInterrupt):
        lifecycle._watch(values, ConsoleProgress(), has_traffic=False, pages_port=None)
    assert asked == [False, True, True, False, False]
    assert said == ["", outage(FULL), "pod1 did not start", "", ""]
    assert notes == [f"{outage(FULL)} Tried again until it holds.", "Everything runs again."]


def test_the_reason_why_a_server_did_not_start_is_its_error(tmp_path: Path) -> None:
    log = tmp_path / "pod1.log"
    log.write_text("LOG:  starting\nFATAL:  could not write lock file\nLOG:  database system is shut down\n")
    server = EmbeddedPostgres(
        name="pod1", folder=tmp_path, log=log, account=Account(user_id=0, group_id=0, switch=False)
    )
    assert server._reason() == "FATAL:  could not write lock file"
