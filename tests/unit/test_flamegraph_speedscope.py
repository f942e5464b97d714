"""Folded chains, speedscope and flame graphs."""

from __future__ import annotations

import json
from itertools import pairwise
from xml.etree import ElementTree as ET

from migration_stacks import captured

from numabench.analysis.callchain import Stack
from numabench.report import flamegraph_svg, speedscope
from numabench.report.folded import folded

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = Stack(("<b>&\"'", "a;b c", "\x1b[0m"), 3, 3, "</title><script>alert(1)</script>", "", 1)


def test_folded_lines_begin_with_the_command_and_end_with_the_count() -> None:
    stacks = [Stack(("leaf", "main"), 2, 20, "numa02", "", 1), Stack(("leaf", "main"), 3, 30, "numa02", "", 0)]
    assert folded(stacks) == "numa02;main;leaf 5\n"


def test_folded_names_cannot_break_their_line() -> None:
    line = folded(
        [
            Stack(("a;b c\n",), 1, 1, "Web Content", "", 0),
        ]
    )
    assert line == "Web_Content;a:b_c\\n 1\n"


def test_folded_counts_all_samples_of_a_capture() -> None:
    stacks = captured("6.12.117-excl.movepages-fork8")
    assert sum(int(line.rpartition(" ")[2]) for line in folded(stacks).splitlines()) == 1987


def test_speedscope_has_every_sample_of_every_command() -> None:
    stacks = captured("6.12.117-excl.movepages-fork8")
    document = json.loads(json.dumps(speedscope.document(stacks, "cpu-clock")))
    names = [frame["name"] for frame in document["shared"]["frames"]]
    assert len(names) == len(set(names))
    assert sum(profile["endValue"] for profile in document["profiles"]) == 1987
    # https://www.speedscope.app/file-format-schema.json: FileFormat.File, FileFormat.SampledProfile, FileFormat.Frame
    assert set(document) == {"$schema", "exporter", "name", "activeProfileIndex", "shared", "profiles"}
    assert all(set(frame) == {"name"} for frame in document["shared"]["frames"])
    for profile in document["profiles"]:
        assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
        assert (profile["type"], profile["unit"], profile["startValue"]) == ("sampled", "none", 0)
        assert all(0 <= frame < len(names) for chain in profile["samples"] for frame in chain)
        assert len(profile["samples"]) == len(profile["weights"])
        assert sum(profile["weights"]) == profile["endValue"]
    first = document["profiles"][0]
    chains = {tuple(names[frame] for frame in reversed(chain)) for chain in first["samples"]}
    assert chains == {stack.frames for stack in stacks if stack.comm == first["name"]}


def test_a_flame_graph_is_well_formed_and_needs_nothing_else() -> None:
    svg = flamegraph_svg.render([HOSTILE], "a <title> & \x1b")
    root = ET.fromstring(svg)  # noqa: S314  our own
    assert root.tag == f"{SVG}svg"
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "rect", "text", "g", "title"}
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert not {name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name}


def test_a_flame_graphs_boxes_lie_within_their_callers() -> None:
    stacks = captured("6.1.192-shared.movepages-fork8")
    root = ET.fromstring(flamegraph_svg.render(stacks, "capture"))  # noqa: S314  our own
    rows: dict[float, list[tuple[float, float]]] = {}
    for rect in root.iter(f"{SVG}rect"):
        if "x" in rect.attrib:
            left, width = float(rect.attrib["x"]), float(rect.attrib["width"])
            rows.setdefault(float(rect.attrib["y"]), []).append((left, left + width))
    levels = [rows[top] for top in sorted(rows, reverse=True)]
    assert len(levels) > 10
    for below, above in pairwise(levels):
        for left, right in above:
            assert any(left >= start - 0.02 and right <= end + 0.02 for start, end in below)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "migrate_pages: 3,106 samples, 91.35 %" in titles


def test_a_flame_graph_of_nothing_is_still_a_picture() -> None:
    assert ET.fromstring(flamegraph_svg.render([], "empty")).tag == f"{SVG}svg"  # noqa: S314  our own
