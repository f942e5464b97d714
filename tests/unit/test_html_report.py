"""The HTML report as a file: what it holds, what it leaves out, and that no text of a recording is markup in it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
import synthetic_pages
import synthetic_run

from numabench import store
from numabench.analysis.callchain import Stack
from numabench.report.html import diff_page, run_page
from numabench.report.html.element import json_block, tag
from numabench.report.html.fit import LEAST_SHARES, diff_graph, fit
from numabench.report.html.template import LARGEST_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from numabench.record import Run


class Markup(HTMLParser):
    """Tags with their attributes, and texts; `scripts` and `styles` as they are written."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        self.tags.append((f"/{name}", {}))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        if last == "script":
            self.scripts.append(data)
        elif last == "style":
            self.styles.append(data)
        else:
            self.text += data


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return synthetic_pages.run(tmp_path / "run")


def test_the_least_is_left_out_that_makes_the_page_small_enough() -> None:
    sizes = {least: 1000 - place for place, least in enumerate(LEAST_SHARES)}
    for limit in (2000, 1000, 990, 950, 1000 - len(LEAST_SHARES) + 1, 1):
        page = fit(lambda least: "x" * sizes.get(least, 1500), limit)
        assert len(page) == next((size for size in (1500, *sizes.values()) if size <= limit), min(sizes.values()))


def test_a_big_tree_is_pruned_to_400_kb_and_says_how(tmp_path: Path) -> None:
    whole = synthetic_pages.big(40_000)
    page = diff_page(synthetic_pages.diff(tmp_path, whole))
    assert len(page.encode()) <= 400_000
    graph = json.loads(Markup(page).scripts[0])["graphs"][0]
    told = re.match(r"([\d,]+) of 40,000 frames are on the page\. .* below ([\d.]+) %", graph["note"])
    assert told is not None
    least = float(told[2]) / 100
    assert len(graph["name"]) == int(told[1].replace(",", ""))
    assert len(graph["name"]) > 1000
    heavy = sum(max(node.share_a, node.share_b) >= least for node in whole.nodes)
    assert heavy <= len(graph["name"])
    # The next smaller step would not have fitted: no more is left out than must be.
    finer = LEAST_SHARES[LEAST_SHARES.index(pytest.approx(least)) - 1]
    more = json_block(diff_graph(whole, "", "ns", finer))
    assert len(page) - len(json_block(graph)) + len(more) > LARGEST_BYTES


def test_a_change_that_was_found_stays_with_its_callers_below_the_share_of_others() -> None:
    rare = synthetic_pages.node("rare", 1, 2, 0.0, 0.0004, verdict="appeared")
    same = synthetic_pages.node("same", 1, 2, 0.0004, 0.0004)
    nodes = [synthetic_pages.node("top", -1, 0, 1, 1), synthetic_pages.node("mid", 0, 1, 0.0004, 0.0008), rare, same]
    graph = diff_graph(synthetic_pages.tree(nodes, ()), "", "ns", 0.001)
    assert [graph["names"][number] for number in graph["name"]] == ["top", "mid", "rare"]
    assert graph["parent"] == [0, 1, 1]


def test_raw_names_are_sent_whole_or_by_their_ending() -> None:
    nodes = [
        synthetic_pages.node("folio_copy", -1, 0, 1, 1, raw_a=("copy_page",), raw_b=("folio_copy.isra.0", "folio_copy"))
    ]
    graph = diff_graph(synthetic_pages.tree(nodes, ()), "", "ns", 0)
    words = graph["names"]
    assert [words[number] for number in graph["rawA"]["0"]] == ["copy_page"]
    assert ["folio_copy" + words[-1 - number] for number in graph["rawB"]["0"]] == ["folio_copy.isra.0", "folio_copy"]


ALLOWED_ATTRIBUTES = re.compile(
    r"class|id|href|lang|charset|content|name|http-equiv|rel|type|hidden|for|role|tabindex|scope|title|placeholder|"
    r"autocomplete|spellcheck|viewBox|viewbox|d|x|y|width|height|cx|cy|r|preserveaspectratio|patternunits|aria-[a-z]+|"
    r"data-value"
)


def assert_is_inert(page: str) -> None:
    """No element or attribute that loads or runs anything, but the one script and the one style sheet, by hash."""
    markup = Markup(page)
    for name, attributes in markup.tags:
        assert ALLOWED_TAGS.fullmatch(name.removeprefix("/")), name
        for attribute, value in attributes.items():
            assert ALLOWED_ATTRIBUTES.fullmatch(attribute), attribute
            if attribute == "href":
                assert value == "data:," or (value or "").startswith("#")
    assert len(markup.scripts) == 2
    assert [attributes.get("type") for name, attributes in markup.tags if name == "script"] == [
        "application/json",
        None,
    ]
    policy = next(attributes["content"] for _, attributes in markup.tags if "http-equiv" in attributes)
    assert policy is not None
    for directive, text in (("script-src", markup.scripts[1]), ("style-src", "".join(markup.styles))):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "<" not in markup.scripts[0]
    assert "\u2028" not in page
    assert re.findall(r"url\(([^)]*)\)", "".join(markup.styles)) == ["#hatch"]


ALLOWED_TAGS = re.compile(
    "html|head|meta|link|title|style|body|a|header|button|h1|h2|p|span|div|main|section|noscript|label|select|fieldset|"
    "legend|input|output|nav|ul|li|script|strong|dl|dt|dd|table|thead|tbody|tr|th|td|code|figure|figcaption|svg|path|"
    "rect|text|circle|defs|pattern|details|summary|pre"
)


def test_pages_load_and_run_nothing(run: Run, tmp_path: Path) -> None:
    assert_is_inert(run_page(run, synthetic_pages.observations(run), synthetic_pages.trees(run)))
    assert_is_inert(diff_page(synthetic_pages.diff(tmp_path / "diff", forced=True)))


@pytest.mark.parametrize("name", synthetic_pages.HOSTILE, ids=range(len(synthetic_pages.HOSTILE)))
def test_a_hostile_text_is_markup_nowhere(tmp_path: Path, name: str) -> None:
    record = synthetic_run.run_record(hostname=name)
    record["identity"]["cpu"]["model"] = name
    record["plan"]["argv"] = [name]
    record["plan"]["scaled"] = [name]
    record["notes"] = [{"code": "note", "message": name, "remedy": name}]
    trial = synthetic_run.trial_record()
    failed = {**synthetic_run.trial_record(2), "status": "workload-failed", "message": name}
    seen = synthetic_pages.observed_trial(3)
    trials = [(trial, synthetic_run.samples()), (failed, []), (seen, synthetic_run.samples())]
    path = synthetic_run.write(tmp_path, record, trials)
    run = store.load(path)
    stacks = [Stack((name, f"{name}2"), 5, 5, name, name, kernel_frames=1)]
    page = run_page(run, synthetic_pages.observations(run, stacks), synthetic_pages.trees(run, stacks))
    assert_is_inert(page)
    diff = synthetic_pages.diff(tmp_path / "diff", synthetic_pages.hostile())
    named = dataclasses.replace(diff, a=dataclasses.replace(diff.a, name=name), notes=(name,))
    assert_is_inert(diff_page(named))


def test_texts_that_never_end_are_cut(tmp_path: Path) -> None:
    endless = "&" * 20_000
    record = synthetic_run.run_record(hostname=endless)
    record["notes"] = [{"code": f"n{n}", "message": endless, "remedy": endless} for n in range(100)]
    record["plan"]["argv"] = [endless] * 3
    trials = [(synthetic_pages.observed_trial(1), synthetic_run.samples())]
    run = store.load(synthetic_run.write(tmp_path, record, trials))
    stacks = [Stack((f"{n}{endless}",), 5, 5, kernel_frames=1) for n in range(300)]
    page = run_page(run, synthetic_pages.observations(run, stacks), synthetic_pages.trees(run, stacks))
    assert len(page.encode()) <= LARGEST_BYTES
    assert "Left out, as the page would be too large: " in page
    assert re.search(r"\(20,0\d\d characters\)", page)


def test_a_guest_is_told_before_all_else_and_hardware_is_not(tmp_path: Path) -> None:
    told = "Times are an emulated guest&#x27;s and not performance."
    guest = synthetic_pages.run(tmp_path / "guest")
    page = run_page(guest, synthetic_pages.observations(guest))
    assert page.index("A guest ran this.") < page.index(told) < page.index("What ran")
    metal = synthetic_pages.run(tmp_path / "metal", where="metal")
    assert "guest" not in Markup(run_page(metal, synthetic_pages.observations(metal))).text.replace("guest-times", "")


def test_a_run_page_has_the_figures_of_its_text(run: Run) -> None:
    text = Markup(run_page(run, synthetic_pages.observations(run), synthetic_pages.trees(run))).text
    for words in (
        "verdict: valid",
        "8,192 = 32 MiB",
        "6.711 (guest time, not comparable)",
        "node 0: 64 MiB to 32 MiB",
        "of the workload's CPU samples are in migration",
        "unmap 512, remap 512",
        "Slept for locks 30 times, 60 us in all, longest 6 us",
        "Per 2 MB migrated: 0.938 waits",
        "kernel.numa_balancing 0 -> 1, put back",
    ):
        assert words in text


def test_a_run_without_passes_or_trials_has_a_page(tmp_path: Path) -> None:
    record = synthetic_run.run_record()
    page = run_page(store.load(synthetic_run.write(tmp_path / "a", record, [], None)))
    assert "No measured trial went well." in page
    assert 'aria-labelledby="graph-title" hidden>' in page
    assert "not valid" in page


def test_a_diff_page_tells_what_differs_and_what_changed(tmp_path: Path) -> None:
    diff = synthetic_pages.diff(tmp_path, forced=True)
    page = diff_page(diff)
    text = Markup(page).text
    assert page.index("were compared anyway") < page.index("Guests ran this.") < page.index("2 of 4 figures changed")
    for words in (
        "6.1.192-excl",
        "163,000 pages/s",
        "1.81..2.31 (approximate)",
        "▲ grown (better)",
        "only in",
        "67.0 %",
    ):
        assert words in text
    rows = re.findall(r'class="name">([^<]*)<.*?class="verdict ([a-z]+)"', page)
    found = [verdict != "same" for _, verdict in rows]
    assert found == sorted(found, reverse=True)
    assert rows[0][0] == "down_write"


def test_a_diff_without_trees_has_a_page_and_too_few_runs_are_told(tmp_path: Path) -> None:
    diff = synthetic_pages.diff(tmp_path)
    assert 'aria-labelledby="graph-title" hidden>' in diff_page(dataclasses.replace(diff, tree=None))
    assert diff.tree is not None
    few = dataclasses.replace(diff, tree=dataclasses.replace(diff.tree, runs_a=2))
    assert "were not tested: descriptive only" in diff_page(few)


def test_an_element_escapes_what_is_not_its_own() -> None:
    inner = tag("b", "<&>", title='"\u202e')
    assert inner == '<b title="&quot;\\u202e">&lt;&amp;&gt;</b>'
    assert tag("p", inner, None, "'") == f"<p>{inner}&#x27;</p>"
    assert json.loads(json_block({"</script>": "&\u2028"})) == {"</script>": "&\u2028"}
