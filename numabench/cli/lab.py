"""`numabench lab`: commands in a guest, the kernels for it, and what it needs of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numabench.errors import CannotRun
from numabench.units import format_bytes, parse_duration, parse_size

app = typer.Typer(
    help="Run commands in an emulated guest with other NUMA nodes, under another kernel.", no_args_is_help=True
)
kernel_app = typer.Typer(help="Kernels for guests: kept in a cache, never installed.", no_args_is_help=True)
app.add_typer(kernel_app, name="kernel")

_KERNEL_HELP = (
    "A cached kernel's name or its beginning, what it was added as, or an image's path; words behind it, in the same "
    "quotes, are parameters for its command line."
)


@app.command("run", no_args_is_help=True)
def run(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARG]...", help="Run as root in the guest.")],
    topology: Annotated[str, typer.Option(help="1n, 2n, 4n, 8n, cpuless or memless.")] = "2n",
    kernel: Annotated[str | None, typer.Option(help=_KERNEL_HELP)] = None,
    memory_per_node: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of each node that has any. [default: 1G; 8n: 512M]")
    ] = None,
    cpus_per_node: Annotated[int, typer.Option(min=1, max=64, help="CPUs of each node that has any.")] = 1,
    timeout: Annotated[str, typer.Option(help="End the guest where the command takes longer.")] = "10m",
    writable: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A directory where the guest's changes reach this machine; can be repeated."),
    ] = None,
) -> None:
    """Boot a guest, run a command in it, and end as the command ended.

    The command's output and exit status are this command's. It sees this machine's files, and what it changes outside
    --writable is gone with the guest.
    """
    from numabench.lab import delegate, guest, shapes
    from numabench.lab.requirements import INSTALL_HINT, requirements

    memory_bytes = None if memory_per_node is None else parse_size(memory_per_node)
    shape = shapes.shape(topology, memory_per_node_bytes=memory_bytes, cpus_per_node=cpus_per_node)
    timeout_s = parse_duration(timeout)
    guest.check_writable(writable or ())
    named = None if kernel is None else delegate.choose_kernel(kernel)
    lacking = requirements()
    if lacking:
        raise CannotRun("a guest", lacking, INSTALL_HINT)
    chosen = named or delegate.choose_kernel(None)
    accel = delegate.choose_accel(chosen)
    with guest.Guest.boot(chosen, shape, accel, writable=tuple(writable or ())) as booted:
        done = booted.run(command, cwd=Path.cwd(), timeout_s=timeout_s, on_output=delegate.relay)
    raise typer.Exit(done.exit_status)


@app.command("probe")
def probe(as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """Tell whether guests can run here, and how their CPUs are run (KVM is tried with a cached kernel)."""
    from numabench.lab import accel, kernels
    from numabench.lab.requirements import INSTALL_HINT, requirements

    lacking = requirements()
    kernel = kernels.default()
    answer = accel.probe(kernel.image) if kernel is not None and not lacking else None
    if as_json:
        import json

        facts = {
            "lacking": list(lacking),
            "accelerator": answer.accel.value if answer else None,
            "reason": answer.reason if answer else "",
            "remembered": answer.remembered if answer else False,
            "kernels": [known.name for known in kernels.cached()],
        }
        print(json.dumps(facts, indent=2))
    elif lacking:
        print("guests cannot run here:")
        for reason in lacking:
            print(f"  {reason}")
        print(INSTALL_HINT)
    elif answer is None:
        print("guests can run here once a kernel is cached: numabench lab kernel add debian:bookworm")
    else:
        print(f"guests can run here, with {answer.accel.value}: {answer.reason}")
        print("kernels: " + ", ".join(known.name for known in kernels.cached()))
    if lacking:
        raise typer.Exit(CannotRun.exit_code)


@kernel_app.command("add", no_args_is_help=True)
def kernel_add(
    what: Annotated[
        list[str], typer.Argument(metavar="debian:SUITE | FILE.deb... | BZIMAGE [MODULES] | TREE [MODULES]")
    ],
) -> None:
    """Put a kernel into the cache: a Debian suite's newest, package files, an image, or a build tree.

    Packages are fetched from this machine's mirror by apt, with signatures checked, and unpacked; nothing is installed.
    """
    from numabench.lab import delegate, kernels

    kernel = kernels.add(what, delegate.say)
    print(kernel.name)


@kernel_app.command("build", no_args_is_help=True)
def kernel_build(
    source: Annotated[
        str, typer.Option(metavar="TREE | debian[:SUITE | :6.12]", help="A kernel's source tree, or Debian's package.")
    ],
    patch: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Apply this, or the project's own of that name (-p1); can be repeated."),
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(metavar="FRAGMENT", help="Options to set beside numabench's own; can be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for `--kernel` beside that of its release.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Compilers that run at once. [default: one per CPU]", show_default=False),
    ] = None,
) -> None:
    """Build a small guest kernel and put it into the cache; what was built of the same before is taken from there.

    The source is copied first and not changed. It takes about ten minutes on two CPUs.
    """
    from numabench.lab import delegate
    from numabench.lab.kernel_build import build

    kernel = build(source, patches=patch or (), fragments=config or (), name=name, jobs=jobs, say=delegate.say)
    print(kernel.name)


@kernel_app.command("list")
def kernel_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print names alone.")] = False,
) -> None:
    """List the cached kernels, newest first."""
    from numabench.lab import kernels

    found = kernels.cached()
    if as_json:
        import json

        print(
            json.dumps(
                [
                    {
                        "name": k.name,
                        "source": k.source,
                        "made_of": k.made_of,
                        "image": str(k.image),
                        "sha256": k.sha256,
                    }
                    for k in found
                ]
            )
        )
        return
    width = max((len(kernel.name) for kernel in found), default=0)
    for kernel in found:
        source = kernel.source if kernel.made_of in {"", kernel.source} else f"{kernel.source}: {kernel.made_of}"
        image = f"{source}, image {format_bytes(kernel.image.stat().st_size)}"
        print(kernel.name if quiet else f"{kernel.name:<{width}}  {image}")


@kernel_app.command("remove", no_args_is_help=True)
def kernel_remove(name: Annotated[str, typer.Argument(metavar="NAME", help="As `list` shows it.")]) -> None:
    """Take a kernel out of the cache."""
    from numabench.lab import kernels

    print(f"removed {kernels.remove(name).name}")
