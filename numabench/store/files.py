"""The names of a run's files, and the version of what they hold."""

from __future__ import annotations

# 1: the first.
SCHEMA_VERSION = 1
KIND = "numabench-run"

RUN_FILE = "run.json"
END_FILE = "end.json"
LOCK_FILE = "run.lock"
TRIALS = "trials"
TRIAL_FILE = "trial.json"
EVENTS_FILE = "events.jsonl"
SAMPLES_FILE = "samples.jsonl"
# Which of a run's recordings were removed to save room: they are not missed.
PRUNED_FILE = "pruned.json"

# A sweep is a directory of runs, one a unit.
SWEEP_KIND = "numabench-sweep"
SWEEP_FILE = "sweep.json"
SWEEP_LOCK_FILE = "sweep.lock"
UNITS = "units"
OUTCOMES = "outcomes"
# Of a lab: a night's plan, and what was published of a cell in one of its boots. 1: the first.
NIGHTS, NIGHT_FILE, CELL_FILE = "nights", "night.json", "cell.json"
NIGHT_SCHEMA_VERSION = 1
