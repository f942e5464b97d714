from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from numabench import process
from numabench.lab import agent

SCRIPTS = {
    "agent": agent.AGENT,
    "first command": "#!/bin/sh\n" + agent.first_command(),
    "mounts": "#!/bin/sh\n" + agent.mounts_script({"numabench.0": Path("/a b/it's")}),
    "command": "#!/bin/sh\n" + agent.command_script(["a b", "c"], cwd=Path("/it's"), env={"A": '"'}),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_guests_scripts_pass_shellcheck(name: str, tmp_path: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[name])
    # SC1091: the mounts script is sourced from where the guest has it.
    process.run(["shellcheck", "--shell=sh", "--exclude=SC1091", str(script)]).check("shellcheck")
