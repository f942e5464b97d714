"""Call stacks as a prefix tree: every function once below each of its callers."""

from __future__ import annotations

import os
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from numabench.perf.elf import find_symbols
from numabench.perf.extension import checked, ffi, lib, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from numabench.perf.elf import ElfSymbols
    from numabench.perf.kallsyms import Kallsyms
    from numabench.perf.records import Parser

ROOT = 0
_UNKNOWN = "[unknown]"
# struct calltree_node of c_ext/calltree.h
_NODE = [("count", "<u8"), ("period", "<u8"), ("parent", "<u4"), ("name", "<u4")]
_TEXT_BYTES = 1 << 18


class CallTree:
    """A prefix tree of call stacks. Node 0 is the root, which is no function; a parent comes before its children.

    `name` has the position in `names` of every node (of the root: `len(names)`). `count` and `period` are a node's own:
    samples taken in it, and the sum of their periods (for a clock event: ns).
    """

    def __init__(self, tree: Any, namer: Namer) -> None:
        self._tree, self._namer = tree, namer

    def __len__(self) -> int:
        size = ffi.new("size_t *")
        lib.calltree_nodes(self._tree, size)
        return int(size[0])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names by number."""
        return self._namer.names()

    @cached_property
    def _nodes(self) -> NDArray[np.void]:
        import numpy as np

        size = ffi.new("size_t *")
        nodes = lib.calltree_nodes(self._tree, size)
        kind = np.dtype(_NODE)
        copy = np.frombuffer(ffi.buffer(nodes, size[0] * kind.itemsize), kind).copy()
        copy["name"][ROOT] = len(self.names)
        return copy

    @property
    def parent(self) -> NDArray[np.uint32]:
        """The parent of each node; of the root itself."""
        parent: NDArray[np.uint32] = self._nodes["parent"]
        return parent

    @property
    def name(self) -> NDArray[np.uint32]:
        """The position in `names` of each node's name."""
        name: NDArray[np.uint32] = self._nodes["name"]
        return name

    @property
    def count(self) -> NDArray[np.uint64]:
        """The samples taken in each node."""
        count: NDArray[np.uint64] = self._nodes["count"]
        return count

    @property
    def period(self) -> NDArray[np.uint64]:
        """The sums of their periods."""
        period: NDArray[np.uint64] = self._nodes["period"]
        return period

    def inclusive(self, own: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """Samples of each node and of all below it; `own` replaces `count` by another figure, for example `period`."""
        import numpy as np

        total = (self.count if own is None else own).tolist()
        parents = self.parent.tolist()
        for node in range(len(total) - 1, 0, -1):
            total[parents[node]] += total[node]
        return np.array(total, np.uint64)

    def frames(self, node: int) -> tuple[str, ...]:
        """The stack that ends in a node, the leaf first."""
        found = []
        while node != ROOT:
            found.append(self.names[self.name[node]])
            node = int(self.parent[node])
        return tuple(found)

    def stacks(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Every stack that was sampled, the leaf first, and how often; the empty stack where chains were empty."""
        paths: list[tuple[str, ...]] = [()]
        counts, parents, names = self.count.tolist(), self.parent.tolist(), self.name.tolist()
        if counts[ROOT]:
            yield (), counts[ROOT]
        for node in range(1, len(counts)):
            path = (self.names[names[node]], *paths[parents[node]])
            paths.append(path)
            if counts[node]:
                yield path, counts[node]

    def folded(self) -> Iterator[str]:
        """Lines `outermost;...;leaf count`, sorted, as flame graph tools read them; empty stacks are left out."""
        for text in self.folded_text():
            yield from text.decode(errors="replace").split("\n")[:-1]

    def folded_text(self) -> Iterator[bytes]:
        """The lines of `folded`, many at a time, each with its end."""
        folded = made(lib.folded_new(self._tree, self._namer.span()), lib.folded_free)
        room_bytes = _TEXT_BYTES
        text = ffi.new("char[]", room_bytes)
        while True:
            size_bytes = lib.folded_next(folded, text, room_bytes)
            if checked(size_bytes) > room_bytes:
                room_bytes = size_bytes
                text = ffi.new("char[]", room_bytes)
            elif size_bytes:
                yield bytes(ffi.buffer(text, size_bytes))
            else:
                return


class Namer:
    """Gives names to the addresses of a recording that was read, and makes trees of its stacks."""

    def __init__(self, parser: Parser, build_ids: dict[str, str]) -> None:
        self._parser, self._build_ids = parser, build_ids
        self._stacks = made(lib.stacks_new(parser.data, int.from_bytes(os.urandom(8), "little")), lib.stacks_free)

    def name_kernel(self, kallsyms: Kallsyms | None, *, modules: bool) -> None:
        """Name the kernel's functions; with `modules` a NUL and the module follow each."""
        table = ffi.NULL if kallsyms is None else kallsyms.table
        checked(lib.stacks_name_kernel(self._stacks, table, modules))

    def name_comms(self) -> None:
        """Name the threads."""
        checked(lib.stacks_name_comms(self._stacks))

    def name_user(self) -> None:
        """Name the functions of programs: `[file]` where a function is not known, `[unknown]` where nothing is."""
        while (number := lib.stacks_next_file(self._stacks)) != lib.STACKS_NONE:
            name, build_id = self._parser.file(number)
            symbols = find_symbols(name, build_id.hex() or self._build_ids.get(name, ""))
            self._name_file(symbols, f"[{PurePath(name).name.strip('[]')}]" if name else _UNKNOWN)

    def _name_file(self, symbols: ElfSymbols | None, fallback: str) -> None:
        word = fallback.encode(errors="replace")
        if symbols is None:
            checked(lib.stacks_name_file(self._stacks, ffi.NULL, ffi.NULL, 0, word, len(word)))
            return
        segments = ffi.new("struct stacks_segment[]", symbols.segments)
        with symbols.elf_table() as table:
            checked(lib.stacks_name_file(self._stacks, table, segments, len(symbols.segments), word, len(word)))

    def show(self, shown: Callable[[str], str]) -> None:
        """Have names shown as another text: those that are empty, or have a blank, a semicolon or unusual characters.

        Call it when all is named that will be in the tree.
        """
        number = 0
        while (number := lib.stacks_odd_name(self._stacks, number)) != lib.STACKS_NONE:
            word = shown(self._name(number)).encode(errors="replace")
            checked(lib.stacks_show(self._stacks, number, word, len(word)))
            number += 1

    def tree(self, event: int | None, *, user: bool, comm: bool, select: bytes | None) -> CallTree:
        """The stacks of one event or of all; what is part of them must have been named."""
        tree = made(lib.calltree_new(int.from_bytes(os.urandom(8), "little")), lib.calltree_free)
        parts = (lib.STACKS_USER if user else 0) | (lib.STACKS_COMM if comm else 0)
        number = lib.STACKS_ALL_EVENTS if event is None else event
        chosen = ffi.NULL if select is None else ffi.from_buffer("uint8_t[]", select)
        checked(lib.stacks_build(self._stacks, tree, number, parts, chosen))
        return CallTree(tree, self)

    def span(self) -> Any:
        """All names, as the extension takes them."""
        return lib.stacks_names(self._stacks)

    def names(self) -> tuple[str, ...]:
        """All names by number."""
        span = self.span()
        starts = ffi.unpack(span.starts, span.count + 1)
        text = bytes(ffi.buffer(span.items, starts[-1])) if starts[-1] else b""
        return tuple(text[begin:end].decode(errors="replace") for begin, end in pairwise(starts))

    def _name(self, number: int) -> str:
        span = self.span()
        begin, end = span.starts[number], span.starts[number + 1]
        size = end - begin
        return bytes(ffi.buffer(ffi.cast("char *", span.items) + begin, size)).decode(errors="replace") if size else ""
