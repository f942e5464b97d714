"""`numabench drivers`: which there are, what each takes, why it cannot be used here."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from numabench.drivers.driver import Driver

_COLUMNS = 100
_NAME = 21


def drivers(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the drivers: what each does, what it takes, and why it cannot be used here where it cannot."""
    from numabench.drivers import catalog
    from numabench.drivers.driver import Circumstances
    from numabench.host import libnuma

    features = libnuma.probe()
    reasons = {each.name: each.requirements(Circumstances(features)) for each in catalog.DRIVERS}
    if as_json:
        print(json.dumps([_to_json(each, reasons[each.name]) for each in catalog.DRIVERS], indent=2))
        return
    for each in catalog.DRIVERS:
        print(_wrap(each.summary, f"{each.name:<{_NAME}}"))
        print(_wrap(_takes(each), ""))
        for reason in reasons[each.name]:
            print(_wrap(f"not here: {reason}", ""))


def _wrap(text: str, lead: str) -> str:
    indent = " " * _NAME
    return textwrap.fill(
        text, _COLUMNS, initial_indent=lead or indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _takes(driver: Driver) -> str:
    if not driver.has_movers:
        return "no movers: takes --victims, --pages, --sharing and --balancing"
    takes = [f"--{flag.replace('_', '-')}" for flag in driver.flags if flag != "move"]
    takes += [f"--mover {other}" for other in driver.movers[1:]]
    takes += ["--batch"] if driver.has_batches else []
    takes += [f"--order {', '.join(driver.orders)}"] if len(driver.orders) > 1 else []
    movers = "any number of movers" if driver.max_movers is None else f"{driver.max_movers} mover"
    return f"{movers}" + (f": takes {'; '.join(takes)}" if takes else "")


def _to_json(driver: Driver, reasons: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": driver.name,
        "summary": driver.summary,
        "movers": list(driver.movers) if driver.has_movers else [],
        "max_movers": driver.max_movers,
        "flags": list(driver.flags),
        "orders": list(driver.orders),
        "has_batches": driver.has_batches,
        "knobs": dict(driver.knobs),
        "runs_here": not reasons,
        "reasons": list(reasons),
    }
