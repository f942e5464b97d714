"""Where a comparison of call trees lies: the chain along which most moved, and the functions that moved most."""

from __future__ import annotations

from synthetic_pages import EXCLUSIVE, SHARED, between, captured, node, tree

from numabench.comparison.steepest import movers, steepest


def names(*nodes_: object) -> list[str]:
    return [one.name for one in nodes_]  # type: ignore[attr-defined]


def test_the_chain_goes_through_what_grew_most_from_its_callers_to_its_callees() -> None:
    nodes = [
        node("syscall", -1, 0, 0.9, 0.9),
        node("migrate", 0, 1, 0.6, 0.8),
        node("unmap", 1, 2, 0.3, 0.31),
        node("remap", 1, 2, 0.2, 0.45),
        node("walk", 3, 3, 0.1, 0.34),
        node("lock", 4, 4, 0.0, 0.2),
        node("other", 4, 4, 0.1, 0.14),
        node("fault", -1, 0, 0.3, 0.1),
    ]
    assert names(*steepest(tree(nodes, nodes))) == ["migrate", "remap", "walk", "lock"]


def test_where_all_that_grew_is_small_it_goes_through_what_shrank() -> None:
    nodes = [node("a", -1, 0, 0.2, 0.25), node("b", -1, 0, 0.6, 0.2), node("c", 1, 1, 0.5, 0.15)]
    assert names(*steepest(tree(nodes, nodes))) == ["b", "c"]


def test_nothing_is_said_where_nothing_moved() -> None:
    nodes = [node("a", -1, 0, 0.5, 0.503)]
    assert steepest(tree(nodes, nodes)) == ()
    assert steepest(tree([], [])) == ()
    assert movers(tree(nodes, nodes), 5) == ()


def test_functions_that_a_test_found_come_first() -> None:
    functions = [
        node("large", -1, 0, 0.2, 0.5, verdict="insufficient"),
        node("found", -1, 0, 0.2, 0.25),
        node("larger", -1, 0, 0.5, 0.1),
        node("small", -1, 0, 0.2, 0.203),
    ]
    assert names(*movers(tree([], functions), 2)) == ["larger", "found"]
    assert names(*movers(tree([], functions), 9)) == ["larger", "found", "large"]


def test_the_exclusive_lock_of_2012_is_found_on_the_way_of_the_walk() -> None:
    """Real stacks of a guest's kernel, whose rmap lock was first shared and then exclusive."""
    nodes, functions = between(captured(SHARED), captured(EXCLUSIVE))
    chain = names(*steepest(tree(nodes, functions)))
    assert any("rmap_walk" in name or "anon_vma" in name for name in chain), chain
