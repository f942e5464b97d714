"""Telling somebody of a night: a command of the user's, a webhook, or both. Nothing of the night depends on it."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numabench import process
from numabench.errors import NumabenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numabench.fleet.plan import LabPlan

# What there may be to tell, the worst first, and a night of which there is nothing.
FAILED, REGRESSION, QUIET = "failed", "regression", "ok"
ALWAYS = "always"
OCCASIONS = (REGRESSION, FAILED, ALWAYS)
MARKDOWN, JSON = "markdown", "json"
FORMATS = (MARKDOWN, JSON)
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_COMMAND_S = 60.0
# One try at a webhook, all tries and the pauses between them.
_TRY_S, _TRIES, _PAUSE_S = 10.0, 3, 2.0
_BUSY = 429


@dataclass(frozen=True)
class AlertPlan:
    """Whom to tell, and when: `on` holds some of `OCCASIONS`. `command` gets the text in `format` on its stdin.

    `${NAME}` in `webhook` is that environment variable's value, which nothing else shows.
    """

    command: tuple[str, ...] = ()
    webhook: str = ""
    on: tuple[str, ...] = (REGRESSION, FAILED)
    format: str = MARKDOWN


def send(plan: LabPlan, payload: Mapping[str, Any], markdown: str, *, pause_s: float = _PAUSE_S) -> tuple[str, ...]:
    """Tell of a night where the plan asks for it; what could not be told, in words. Raises nothing for that.

    `payload` has at least `night`, `state` (a list of `failed` and `regression`, empty for neither) and `exit_status`;
    a webhook is posted it as JSON, with `text` being `markdown`.
    """
    alert = plan.alert
    states = [str(state) for state in payload["state"]]
    if not (ALWAYS in alert.on or set(states) & set(alert.on)):
        return ()
    body = json.dumps({**payload, "lab": plan.name, "text": markdown}, indent=1)
    problems = []
    if alert.command:
        problems.append(_run(plan, payload, states, markdown if alert.format == MARKDOWN else body))
    if alert.webhook:
        problems.append(_post(alert.webhook, body, pause_s))
    return tuple(problem for problem in problems if problem)


def _run(plan: LabPlan, payload: Mapping[str, Any], states: list[str], text: str) -> str:
    """Run the command, from the directory of the plan; what went wrong."""
    base = plan.file.resolve().parent
    program, *words = plan.alert.command
    told = {
        "NUMABENCH_LAB": plan.name,
        "NUMABENCH_NIGHT": str(payload["night"]),
        "NUMABENCH_STATE": " ".join(states) or QUIET,
        "NUMABENCH_EXIT": str(payload["exit_status"]),
    }
    argv = [str(base / program) if "/" in program else program, *words]
    try:
        ended = process.run(argv, env={**os.environ, **told}, cwd=base, timeout_s=_COMMAND_S, stdin_text=text)
        ended.check("the alert's command")
    except NumabenchError as error:
        return str(error)
    return ""


def _post(webhook: str, body: str, pause_s: float) -> str:
    """Post to the webhook, several times if need be; what went wrong."""
    missing = sorted({name for name in VARIABLE.findall(webhook) if name not in os.environ})
    if missing:
        return f"the alert's webhook needs the environment variable {', '.join(missing)}"
    url = VARIABLE.sub(lambda match: os.environ[match[1]], webhook)
    problem = ""
    for number in range(_TRIES):
        time.sleep(pause_s * number)
        problem, is_final = _try(url, body.encode())
        if is_final:
            break
    return f"the alert could not be posted to {_shown(webhook)}: {problem}" if problem else ""


def _shown(webhook: str) -> str:
    """Of the address what holds no token: neither its path nor a user's name."""
    host = re.match(r"(https?://)(?:[^/@]*@)?([^/?#]+)", webhook)
    return f"{host[1]}{host[2]}" if host else webhook[: webhook.find("}") + 1]


def _try(url: str, body: bytes) -> tuple[str, bool]:
    """One try; what went wrong, and whether another would end alike. A server that trickles is given up, too."""
    answer: list[tuple[str, bool]] = []
    # urllib's time-out is between two bytes: a thread that hangs beyond it ends with the process.
    thread = threading.Thread(target=lambda: answer.append(_request(url, body)), daemon=True)
    thread.start()
    thread.join(_TRY_S)
    return answer[0] if answer else (f"no answer in {_TRY_S:.0f} s", False)


def _request(url: str, body: bytes) -> tuple[str, bool]:
    import http.client
    import urllib.error
    import urllib.request

    class Unmoved(urllib.request.HTTPRedirectHandler):
        """Followed, a POST would become a GET without its text, and the token go to somebody else."""

        def redirect_request(self, *_: Any) -> None:
            return None

    headers = {"Content-Type": "application/json", "User-Agent": "numabench"}
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310  the plan's
        with urllib.request.build_opener(Unmoved).open(request, timeout=_TRY_S):
            return "", True
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}", error.code < 500 and error.code != _BUSY
    except urllib.error.URLError as error:
        return _reason(error.reason), False
    except (http.client.HTTPException, OSError) as error:
        return _reason(error), False
    except ValueError:
        # Its message would show the address.
        return "it is not an address", True


def _reason(error: object) -> str:
    """An error in words that cannot hold the address."""
    return str(error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__
