"""An alert reaches a real command and a real server, or it is said why not; the night's result is never touched."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from numabench.cli.run_words import run_words
from numabench.errors import UsageError
from numabench.fleet import alert, plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REST = """
[kernels.now]
running = true
[machines.box]
here = true
[[experiment]]
name = "x"
program = ["true"]
"""
NIGHT = {"night": "2026-11-25", "state": ["failed"], "exit_status": 1}
SECRET = "xoxb-very-secret"  # noqa: S105  nobody's


def read(directory: Path, text: str) -> plan.LabPlan:
    (directory / "lab.toml").write_text(f'[lab]\nname = "cellar"\n[alert]\n{text}\n{REST}')
    return plan.read(directory / "lab.toml", run_words())


def send(read: plan.LabPlan, **more: Any) -> tuple[str, ...]:
    return alert.send(read, {**NIGHT, **more}, "# It failed\n", pause_s=0.0)


class Server(http.server.ThreadingHTTPServer):
    """Answers with the statuses that it is given, in turn, and remembers what it was sent."""

    def __init__(self, statuses: list[int], *, trickles: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.trickles = statuses, trickles
        self.asked: list[tuple[str, str, str, bytes]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.command, self.path, self.headers["Content-Type"], body))
        if self.server.trickles:
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"H")
                    self.wfile.flush()
                    time.sleep(0.05)
            return
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(*statuses: int, trickles: bool = False) -> Iterator[Server]:
    with Server(list(statuses), trickles=trickles) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def address(server: Server, path: str = "/hook/${HOOK_TOKEN}") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    monkeypatch.setenv("no_proxy", "*")


def test_a_webhook_is_posted_the_night_as_json(tmp_path: Path) -> None:
    with serving() as server:
        assert send(read(tmp_path, f'webhook = "{address(server)}"'), cells={"x": {"state": "failed"}}) == ()
    ((command, path, kind, body),) = server.asked
    assert (command, path, kind) == ("POST", f"/hook/{SECRET}", "application/json")
    wanted = {**NIGHT, "cells": {"x": {"state": "failed"}}, "lab": "cellar", "text": "# It failed\n"}
    assert json.loads(body) == wanted


@pytest.mark.parametrize(
    ("statuses", "asked", "told"),
    [
        ((503, 429), 3, ""),
        ((500, 500, 500, 500), 3, "it answered 500"),
        ((404,), 1, "it answered 404"),
        ((302,), 1, "it answered 302"),
    ],
)
def test_what_may_pass_is_tried_again_and_what_will_not_is_told(
    tmp_path: Path, statuses: tuple[int, ...], asked: int, told: str
) -> None:
    with serving(*statuses) as server:
        problems = send(read(tmp_path, f'webhook = "{address(server)}"'))
    assert len(server.asked) == asked
    assert {path for _, path, *_ in server.asked} == {f"/hook/{SECRET}"}
    host = f"http://127.0.0.1:{server.server_port}"
    assert problems == ((f"the alert could not be posted to {host}: {told}",) if told else ())


def test_a_server_that_never_ends_its_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert, "_TRY_S", 0.3)
    with serving(trickles=True) as server:
        (problem,) = send(read(tmp_path, f'webhook = "{address(server)}"'))
    assert "no answer" in problem


@pytest.mark.parametrize(
    ("webhook", "told"),
    [
        ("http://127.0.0.1:1/xoxb-very-secret", "http://127.0.0.1:1: Connection refused"),
        ("http://127.0.0.1:1/${HOOK_TOKEN}", "http://127.0.0.1:1: Connection refused"),
        ("${HOOK_TOKEN}", "${HOOK_TOKEN}: it is not an address"),
        ("${HOOK_TOKEN}/${NOT_SET}", "the environment variable NOT_SET"),
        ("http://[${HOOK_TOKEN}]/", "]: "),
        ("http://no.such.host.invalid/${HOOK_TOKEN}", "http://no.such.host.invalid: "),
    ],
)
def test_no_secret_is_told(tmp_path: Path, webhook: str, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    (problem,) = send(read(tmp_path, f'webhook = "{webhook}"'))
    assert told in problem
    assert SECRET not in "".join((problem, *capfd.readouterr()))


def test_a_command_gets_the_text_and_the_night(tmp_path: Path) -> None:
    (tmp_path / "tell").write_text(
        '#!/bin/sh\n{ echo "$1|$NUMABENCH_LAB|$NUMABENCH_NIGHT|$NUMABENCH_STATE|$NUMABENCH_EXIT"; cat; } >told\n'
    )
    (tmp_path / "tell").chmod(0o755)
    assert send(read(tmp_path, 'command = ["./tell", "a b"]'), state=["failed", "regression"], exit_status=3) == ()
    assert (tmp_path / "told").read_text() == "a b|cellar|2026-11-25|failed regression|3\n# It failed\n"
    assert send(read(tmp_path, 'command = ["./tell", "a b"]\nformat = "json"\non = ["always"]'), state=[]) == ()
    first, _, rest = (tmp_path / "told").read_text().partition("\n")
    assert first == "a b|cellar|2026-11-25|ok|1"
    assert json.loads(rest) == {**NIGHT, "state": [], "lab": "cellar", "text": "# It failed\n"}


def test_a_command_that_fails_is_told_and_the_webhook_is_asked_all_the_same(tmp_path: Path) -> None:
    for command, told in (('["sh", "-c", "echo no mail >&2; exit 3"]', "exited with 3: no mail"), ('["./not"]', "not")):
        with serving() as server:
            (problem,) = send(read(tmp_path, f'command = {command}\nwebhook = "{address(server)}"'))
        assert told in problem
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("on", "state", "tells"),
    [
        ('["regression"]', ["failed"], False),
        ('["regression"]', ["failed", "regression"], True),
        ('["failed"]', ["failed"], True),
        ('["always"]', [], True),
        ('["failed", "regression"]', [], False),
    ],
)
def test_only_what_was_asked_for_is_told(tmp_path: Path, on: str, state: list[str], *, tells: bool) -> None:
    send(read(tmp_path, f'command = ["touch", "told"]\non = {on}'), state=state)
    assert (tmp_path / "told").exists() == tells


def test_without_an_alert_nobody_is_told(tmp_path: Path) -> None:
    assert send(read(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('on = ["regresion"]\ncommand = ["x"]', "alert.on: there is no 'regresion'; did you mean 'regression'?"),
        ('on = ["failed"]', 'alert: it tells nobody: command = [...] or webhook = "https://..." is expected'),
        ('webhook = "hooks.example.org/xoxb-very-secret"', "alert.webhook: it is not an address, for example"),
        ('webhook = "https://user:xoxb-very-secret@host/"', "alert.webhook: it is not an address, for example"),
        ('webhook = "https://x/$TOKEN"', "alert.webhook: a variable of the environment is written ${NAME}"),
        ("command = [1]", "alert.command: [1] is not a list of a command's words"),
        ('command = ["x"]\nformat = "jsn"', "alert.format: there is no 'jsn'; did you mean 'json'?"),
        ('webhok = "https://x/"', "alert.webhok: there is no such key; did you mean 'webhook'?"),
    ],
)
def test_what_cannot_be_meant_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, text)
    assert told in refused.value.message
    assert refused.value.message.count("lab.toml:") == 1 + ("webhok" in text)
    assert SECRET not in refused.value.message
