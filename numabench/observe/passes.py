"""A pass over a trial: perf with one recipe's events, and with it the kernel's probes where the recipe counts them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from numabench.errors import ObserveError
from numabench.host.kprobes import Kprobes
from numabench.observe.capture import Perf

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.observe.recipes import Recipe


class Pass:
    """Attaches one recipe to one trial; what it records goes to `scratch`, to be kept with the trial."""

    def __init__(self, recipe: Recipe, scratch: Path, *, perf_version: str, kallsyms: str) -> None:
        self._recipe, self._scratch = recipe, scratch
        self._perf_version, self._kallsyms = perf_version, kallsyms
        self._stack = contextlib.ExitStack()
        self._perf: Perf | None = None
        self._probes = Kprobes(recipe.functions)
        self._missed: dict[str, int] = {}

    def attach(self) -> None:
        """Have perf up, its events off, and the probes of the kernel's functions in place."""
        argv = self._recipe.argv
        if self._recipe.functions:
            try:
                self._stack.enter_context(self._probes)
            except OSError as error:
                raise ObserveError(f"cannot probe the kernel's functions: {error.strerror}") from None
            if not self._probes.events:
                raise ObserveError("the kernel lets none of its functions be probed", *_some(self._probes.refused))
            argv = (*argv, "-e", ",".join(self._probes.events))
        self._perf = Perf(argv, self._scratch / _file_name(self._recipe))
        self._stack.callback(self._perf.close)
        self._perf.attach()

    def enable(self) -> None:
        """Switch the events on."""
        assert self._perf is not None
        self._probes.begin()
        self._perf.enable()

    def disable(self) -> None:
        """Switch the events off."""
        assert self._perf is not None
        self._perf.disable()
        self._missed = self._probes.missed()

    def detach(self) -> None:
        """Have perf write its file and end."""
        assert self._perf is not None
        self._perf.detach()

    def close(self) -> None:
        """End perf, and take the probes out of the kernel."""
        self._stack.close()

    def record(self) -> dict[str, Any] | None:
        """What trial.json has as `observe` (docs/result-format.md)."""
        perf = self._perf
        return {
            "recipe": self._recipe.name,
            "file": _file_name(self._recipe),
            "events": list(self._recipe.events),
            "frequency_hz": self._recipe.frequency_hz or None,
            "perf": self._perf_version,
            "argv": list(perf.argv) if perf else [],
            "enabled": perf.enabled_ns if perf else None,
            "disabled": perf.disabled_ns if perf else None,
            "kallsyms": self._kallsyms,
            "functions": self._probes.events,
            "not_counted": self._probes.refused,
            "missed": self._missed,
        }

    def files(self) -> tuple[Path, ...]:
        """The recording."""
        return (self._perf.output,) if self._perf is not None and self._perf.output.is_file() else ()


def _some(refused: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{function}: {reason}" for function, reason in refused.items())[:1]


def _file_name(recipe: Recipe) -> str:
    return f"{recipe.name}.data" if recipe.records else f"{recipe.name}.csv"
