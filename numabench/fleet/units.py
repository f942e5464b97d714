"""The systemd units of a lab: a timer, the service of a night, and one that goes on with a broken-off night."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.fleet import reboot, unattended
from numabench.fleet.unit_text import command, line, path, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numabench.fleet.plan import LabPlan

MARK = "# Written by `numabench nightly install`, and taken out by its --remove."
_OF = "# lab: "
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")
# What a night that is stopped may take to put the machine back, and then the commands after it.
_STOP_S = round(unattended.STOP_S) + 30
# With a deadline a night ends within a day, and then comes its report.
_LONGEST = "25h"


@dataclass(frozen=True)
class Units:
    """The units of a lab by their files' names. `timer` and `resume` are those that are enabled."""

    texts: Mapping[str, str]
    timer: str
    resume: str


def base_name(lab: str) -> str:
    """What a lab's units are called, without their endings."""
    return f"numabench-night-{_NOT_IN_NAMES.sub('-', lab)[:100]}"


def owner(text: str) -> str:
    """The plan that a unit was written for; empty for a unit that is not ours."""
    lines = text.splitlines()
    if not lines or lines[0] != MARK:
        return ""
    told = next((each.removeprefix(_OF) for each in lines if each.startswith(_OF)), '""')
    try:
        return str(json.loads(told))
    except ValueError:
        return ""


def units(plan: LabPlan, calendar: str, own: list[str], environment: Mapping[str, str], *, is_user: bool) -> Units:
    """The units of a plan, whose night begins when `calendar` says.

    `own` begins a command line of this numabench, and `environment` is what it needs to be the same one. Raises
    `UsageError` for a path that no unit can hold.
    """
    file = plan.file.resolve()
    lab = plan.directory.resolve()
    name = base_name(plan.name)
    service, resume, timer = f"{name}.service", f"{name}-resume.service", f"{name}.timer"
    head = f"{MARK}\n{_OF}{json.dumps(str(file))}\n"
    # A program of the plan's that is named by a relative path is looked for from where the plan is.
    own_here = [own[0], "-P", *own[1:]]
    common = "\n".join(_service(own_here, file, environment, has_deadline=bool(plan.night.deadline)))
    titles = {
        each: line(f"numabench: {words} of lab {plan.name}")
        for each, words in ((service, "a night"), (resume, "a night that was broken off"), (timer, "the nights"))
    }
    # A user's manager has no such targets.
    online = "" if is_user else "Wants=network-online.target\nAfter=network-online.target time-sync.target\n"
    places = dict.fromkeys((str(lab), str(file.parent)))
    mounts = f"RequiresMountsFor={' '.join(quoted(place) for place in places)}\n"
    words = ["nightly", "unattended", str(file)]
    return Units(
        {
            service: f"{head}[Unit]\nDescription={titles[service]}\n{online}{mounts}OnFailure={resume}\n\n"
            f"[Service]\nExecStart={command([*own_here, *words])}\n{common}\n",
            resume: f"{head}[Unit]\nDescription={titles[resume]}\n"
            f"ConditionPathExists=|{path(str(lab / unattended.FILE))}\n"
            f"ConditionPathExists=|{path(str(lab / reboot.FILE))}\n"
            f"{online}{mounts}After={service}\nStartLimitIntervalSec=6h\nStartLimitBurst=4\n\n"
            f"[Service]\nExecStart={command([*own_here, *words, '--resume'])}\n{common}\n"
            "Restart=on-abnormal\nRestartSec=30\n\n"
            f"[Install]\nWantedBy={'default.target' if is_user else 'multi-user.target'}\n",
            timer: f"{head}[Unit]\nDescription={titles[timer]}\n\n[Timer]\n"
            f"OnCalendar={line(calendar)}\n"
            # A night that was missed is not made up for by day.
            "Persistent=false\nAccuracySec=1s\n"
            f"Unit={service}\n\n[Install]\nWantedBy=timers.target\n",
        },
        timer,
        resume,
    )


def _service(own: list[str], file: Path, environment: Mapping[str, str], *, has_deadline: bool) -> list[str]:
    """What both services have. Neither priority nor scheduling, CPUs or memory are set: a night measures as a shell."""
    return [
        "Type=exec",
        f"WorkingDirectory={path(str(file.parent))}",
        *(f"Environment={quoted(f'{name}={value}')}" for name, value in sorted(environment.items())),
        # SIGTERM goes to who runs the night alone, which ends the rest in order; what is left then is killed.
        "KillMode=mixed",
        "KillSignal=SIGTERM",
        f"TimeoutStopSec={_STOP_S}",
        *([f"RuntimeMaxSec={_LONGEST}"] if has_deadline else []),
        # Whatever ended it, also SIGKILL or a time-out.
        f"ExecStopPost={command([*own, 'state', 'restore', '--killed'], may_fail=True)}",
        f"ExecStopPost={command([*own, 'nightly', 'ended', str(file)], may_fail=True)}",
        # 3: a regression, which is told; 130 and 143: it was asked to end, and is not to begin again at once.
        "SuccessExitStatus=3 130 143",
        # A workload that is killed for want of memory fails alone, and one that forks is not held back.
        "OOMPolicy=continue",
        "TasksMax=infinity",
    ]
