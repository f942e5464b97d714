"""The pages of a lab of two years in headless Chromium, on a phone and a desk, dark and light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import browser
import lab_site
import pytest
from browser import Browser

from numabench.report.site import names, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numabench.report.site.lab import Lab

NIGHTS, KERNELS, FIGURES = 730, ("v1", "a-kernel-with-a-very-long-nickname-indeed"), 10
LARGEST_BYTES = 1_000_000
READY = "true"
# Texts of which some are too faint to be read on what is behind them: WCAG 2.2, 1.4.3.
FAINT = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  for (const element of document.querySelectorAll('body *')) {
    const texts = [...element.childNodes].filter(node => node.nodeType === 3 && node.textContent.trim());
    if (element.closest('title') || !texts.length) continue;
    const style = getComputedStyle(element);
    const own = luminance(parse(element.closest('svg') ? style.fill : style.color)), other = luminance(behind(element));
    const ratio = (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05);
    if (ratio < 4.5) faint.add(`${element.outerHTML.slice(0, 80)} ${ratio.toFixed(2)}`);
  }
  return [...faint];
})()"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = lab_site.lab(tmp_path_factory.mktemp("lab"), nights=NIGHTS, workloads=2, kernels=KERNELS, figures=FIGURES)
    lab_site.make_runs(made)
    return made


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site")
    done = tree.write(path, lab)
    assert (done.pages, done.removed) == (1 + NIGHTS + len(lab.cells), 0)
    return path


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if browser.program() is None:
        pytest.skip("no Chromium is installed: scripts/setup test installs one")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def shown(lab: Lab) -> list[Path]:
    """A page of each kind, and that of what means harm."""
    cells = (lab.cells[1].cell.name, lab.cells[-1].cell.name)
    nights = (lab.nights[-1].name, lab.nights[-5].name)
    return [names.INDEX, *map(names.cell_page, cells), *map(names.night_page, nights)]


def check_quiet(chromium: Browser) -> None:
    """Nothing was complained of, and nothing asked for but the page."""
    assert chromium.complaints() == []
    assert [url for url in chromium.requested() if not url.startswith("data:,")] == [chromium.run("location.href")]
    assert chromium.run("typeof window.hacked") == "undefined"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_and_can_be_read(chromium: Browser, lab: Lab, site: Path, width: int, dark: bool) -> None:
    for page in shown(lab):
        chromium.look(dark=dark, width=width)
        chromium.open(site / page, READY)
        chromium.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert chromium.run("document.documentElement.scrollWidth") == width, page
        assert chromium.run(FAINT) == [], page
        ground = chromium.run("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
        assert chromium.screenshot()[:8] == b"\x89PNG\r\n\x1a\n"
        check_quiet(chromium)


def test_every_picture_has_its_text_and_no_state_is_a_colour_alone(chromium: Browser, lab: Lab, site: Path) -> None:
    chromium.look()
    chromium.open(site / names.cell_page(lab.cells[0].cell.name), READY)
    texts = chromium.run("[...document.querySelectorAll('svg.chart')].map(one => one.getAttribute('aria-label'))")
    # The main figures have two: all nights, and the last ones.
    assert len(texts) == FIGURES + 2
    last = lab.cells[0].figures[0].changes[-1]
    assert f"{last.night}: " in texts[0]
    assert "(worse)" in texts[0]
    bare = "svg:not([aria-hidden=true]):not([role=img][aria-label]):not(svg svg)"
    assert chromium.run(f"document.querySelectorAll('{bare}').length") == 0
    marks = chromium.run("[...document.querySelectorAll('svg.chart')][0].querySelectorAll('title').length")
    assert marks == len(lab.cells[0].figures[0].changes)
    assert chromium.run("[...document.querySelectorAll('.state')].every(one => one.textContent.trim().length > 1)")
    assert chromium.run(
        "[...document.querySelectorAll('table')].every(one => one.querySelector('thead th[scope=col]'))"
    )


def test_rows_are_filtered_by_words_and_by_what_changed(chromium: Browser, site: Path) -> None:
    chromium.look()
    chromium.open(site / names.INDEX, READY)
    rows = "[...document.querySelectorAll('.matrix tbody tr')].filter(one => one.offsetParent).length"
    assert chromium.run(rows) == 3
    chromium.run("document.querySelector('.tools input[type=search]').focus()")
    chromium.type("w1")
    assert chromium.run(rows) == 1
    assert chromium.run("document.querySelector('.tools output').textContent") == "1 of 3 rows"
    check_quiet(chromium)


def test_pages_are_whole_without_scripts(chromium: Browser, lab: Lab, site: Path) -> None:
    chromium.look()
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(site / names.INDEX, READY)
        assert chromium.run("document.querySelectorAll('.matrix tbody tr').length") == 3
        assert chromium.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def test_all_that_pages_lead_to_is_there_and_no_page_is_too_large(lab: Lab, site: Path) -> None:
    led_to: set[Path] = set()
    pages = set(site.rglob("*.html"))
    for page in pages:
        assert page.stat().st_size < LARGEST_BYTES, page
        led_to |= lab_site.links(page)
    assert [path for path in led_to if not path.exists()] == []
    assert pages - {site / names.INDEX} <= led_to


def test_only_what_changed_is_written_again(lab: Lab, site: Path) -> None:
    assert tree.write(site, lab).written == 0
    (site / names.night_page(lab.nights[3].name)).write_text("damaged")
    (site / "cells" / "stale.html").write_text("old")
    (site / "nights" / ".tmp-cut-off.html").write_text("")
    done = tree.write(site, lab)
    assert (done.written, done.removed) == (1, 2)
