"""supervisord's configuration: what it says survives odd characters, and supervisord itself accepts it."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

from stack.supervision import Program, Supervisor, render_configuration

ODD = Path("/tmp/odd % folder; with spaces")


def _render(*programs: Program) -> configparser.RawConfigParser:
    text = render_configuration(
        programs, folder=ODD / "supervisor", logs=ODD / "logs", directory=ODD, port=4711, password="pa%ss"
    )
    # As supervisord reads it: a semicolon after a space begins a comment.
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",), strict=True)
    parser.read_string(text)
    return parser


def test_workers_restart_and_their_groups_end_with_them() -> None:
    section = _render(Program(name="relay-pod1", command=["python", "-m", "x"]))["program:relay-pod1"]
    assert section["autorestart"] == "true"
    assert section["stopasgroup"] == section["killasgroup"] == "true"
    assert section["stdout_logfile_maxbytes"] == "5MB"


def test_all_workers_are_stopped_at_once() -> None:
    programs = [Program(name=name, command=["x"]) for name in ("relay-pod1", "lake-pod1")]
    assert _render(*programs)["group:workers"]["programs"] == "relay-pod1,lake-pod1"


def test_odd_characters_in_commands_and_values_survive() -> None:
    command = ["/opt/my python/bin/python", "-c", "print('100% $HOME')"]
    section = _render(Program(name="odd", command=command, environment={"A": "50%"}))["program:odd"]
    assert shlex.split(section["command"].replace("%%", "%")) == command
    assert section["environment"] == 'A="50%%"'


def test_the_control_port_is_on_loopback_with_a_password() -> None:
    section = _render()["inet_http_server"]
    assert section["port"] == "127.0.0.1:4711"
    assert section["password"] == "pa%%ss"


def test_nothing_answers_where_no_supervisor_runs(tmp_path: Path) -> None:
    supervisor = Supervisor(var_dir=tmp_path)
    assert supervisor.states() == []
    assert supervisor.stop() is False
