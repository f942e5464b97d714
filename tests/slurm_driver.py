"""A night on Slurm's nodes in a process of its own, which can be killed: `slurm_driver.py NIGHT_DIR ROOTS`."""

from __future__ import annotations

import sys
from pathlib import Path

from numabench.fleet import night_file
from numabench.fleet.journal import JOURNAL_FILE, Journal
from numabench.fleet.slurm_lane import Patience
from numabench.fleet.slurm_night import run_blocks

# A cluster whose timeouts are seconds; a node that is mended is up in two.
PATIENCE = Patience(poll_s=0.5, silent_s=30.0, down_s=20.0, waiting_s=120.0, settle_s=2.0)


class PlainProgress:
    """Every word on stdout."""

    @staticmethod
    def say(text: str) -> None:
        """Print it."""
        print(text, flush=True)

    status = say


def main() -> None:
    """Run the night to its end."""
    night = night_file.load(Path(sys.argv[1]))
    run_blocks(night, Journal(night.path / JOURNAL_FILE), PlainProgress(), PATIENCE, roots=Path(sys.argv[2]))


if __name__ == "__main__":
    main()
