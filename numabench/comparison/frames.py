"""A kernel's frames as two kernels can share them: canonical names, entries and waits for locks under one name each.

How the kernel was entered is written differently in every version and on every architecture, and so is waiting for a
lock. Frames in a row that are about one of these become one, whose name stands in brackets, as no function's does:

- `[syscall move_pages]`, and `[syscall]` for what is none yet or no more;
- `[page fault]`, `[irq]`, `[kthread]`, and `[fork]` for where a new thread begins;
- `[return to user]`, where task work is done;
- `[waits for LOCK]`, with the classes of `numabench.analysis.phases`, whether asleep or spinning. A lock that was taken
  without waiting keeps its functions.

`[user]` is time outside of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numabench.analysis.phases import is_interrupt, is_lock_function, lock_wait

if TYPE_CHECKING:
    from numabench.perf.symbols import SymbolTable

USER = "[user]"
_SYSCALL, _FAULT, _IRQ, _THREAD, _RETURN, _LOCK = "syscall", "page fault", "irq", "thread", "return to user", "lock"
_ENTRIES = (
    (
        _SYSCALL,
        (
            "entry_SYSCALL_64_after_hwframe entry_SYSCALL_64 entry_SYSCALL_64_fastpath entry_SYSCALL_64_safe_stack "
            "do_syscall_64 x64_sys_call system_call_fastpath entry_INT80_compat do_int80_syscall_32 ia32_sys_call "
            "entry_SYSENTER_compat_after_hwframe do_fast_syscall_32 do_SYSENTER_32 entry_SYSCALL_compat_after_hwframe "
            "el0t_64_sync el0t_64_sync_handler el0_sync el0_sync_handler el0_svc do_el0_svc el0_svc_common "
            "invoke_syscall syscall_enter_from_user_mode"
        ),
    ),
    (
        _FAULT,
        (
            "asm_exc_page_fault exc_page_fault do_user_addr_fault do_kern_addr_fault el0_da el1_abort el0_ia "
            "do_mem_abort do_translation_fault"
        ),
    ),
    (_IRQ, "__sysvec_apic_timer_interrupt irq_exit_rcu __common_interrupt"),
    (_THREAD, "ret_from_fork_asm ret_from_fork kthread"),
    (
        _RETURN,
        (
            "syscall_exit_to_user_mode syscall_exit_to_user_mode_prepare syscall_exit_to_user_mode_work "
            "exit_to_user_mode_prepare exit_to_user_mode_loop irqentry_exit irqentry_exit_to_user_mode "
            "prepare_exit_to_usermode exit_to_usermode_loop syscall_return_slowpath resume_user_mode_work "
            "do_notify_resume"
        ),
    ),
)
_KIND_OF = {name: kind for kind, names in _ENTRIES for name in names.split()}
_CALL = "sys_"


@dataclass(frozen=True, slots=True)
class At:
    """Where a chain stands, read from the outermost frame: what it shows as, and what it may still become.

    `shown` are the names from the outermost on. The last `of_run` of them stand for `run`, the canonical names of the
    frames in a row that are of one `kind`.
    """

    shown: tuple[str, ...] = ()
    name: str = ""
    raw: str = ""
    kind: str = ""
    run: tuple[str, ...] = ()
    of_run: int = 0


class Frames:
    """Reads chains from the outermost frame to the innermost."""

    def __init__(self, table: SymbolTable) -> None:
        self._table = table
        self._known: dict[str, tuple[str, str]] = {}

    def step(self, at: At, raw: str) -> At:
        """Where a chain stands one frame further in."""
        name, kind = self._name_and_kind(raw)
        if name == at.name and raw != at.raw:
            # What the compiler split off its function (`.cold`), or a wrapper that became the same name.
            return At(at.shown, name, raw, at.kind, at.run, at.of_run)
        if at.kind == _SYSCALL and name.startswith(_CALL):
            kind = _SYSCALL
        if not kind:
            return At((*at.shown, name), name, raw)
        if kind != at.kind:
            return self._of_run(at.shown, name, raw, kind, (name,))
        above = at.shown[: len(at.shown) - at.of_run]
        return self._of_run(above, name, raw, kind, (*at.run, name))

    def _of_run(self, above: tuple[str, ...], name: str, raw: str, kind: str, run: tuple[str, ...]) -> At:
        shown = _shown(kind, run)
        return At((*above, *shown), name, raw, kind, run, len(shown))

    def _name_and_kind(self, raw: str) -> tuple[str, str]:
        found = self._known.get(raw)
        if found is None:
            name = self._table.canonical(raw)
            # A function may be called sys_ and be no system call: the wrappers' names tell.
            is_call = name.startswith(_CALL) and name != raw
            found = self._known[raw] = (name, _SYSCALL if is_call else _kind(name))
        return found


def _kind(name: str) -> str:
    if is_lock_function(name):
        return _LOCK
    return _KIND_OF.get(name) or (_IRQ if is_interrupt(name) else "")


def _shown(kind: str, run: tuple[str, ...]) -> tuple[str, ...]:
    """The names that frames in a row, of one kind and the outermost first, are shown as."""
    if kind == _LOCK:
        waits_for, _ = lock_wait(run[::-1])
        return (f"[waits for {waits_for}]",) if waits_for else run
    if kind == _SYSCALL:
        call = next((name.removeprefix(_CALL) for name in run if name.startswith(_CALL)), "")
        return (f"[syscall {call}]",) if call else ("[syscall]",)
    if kind == _THREAD:
        return ("[kthread]",) if "kthread" in run else ("[fork]",)
    return (f"[{kind}]",)
