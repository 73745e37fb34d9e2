"""Reports of many methods with long names fit paper, a desktop and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from purenoise.report import report_runs

from ..fakeruns import fake_run
from .browser import browser

METHODS: dict[str, tuple[str, ...]] = {
    "drs": (), "open": (), "open:": ("batch_norm=shared",),
    "open+balanced-softmax": ("prior=natural", "tau=0.5"),
    "open+balanced-softmax:": ("prior=all", "tau=0.5"), "open+balanced-softmax::": ("tau=0.25",),
    "weight-balancing": (), "label-aware-smoothing": (), "logit-adjustment": (), "tau-norm": (),
    "deferred-balanced-softmax": (), "open+cmo": (),
}  # fmt: skip
LONG = "large_natural_outdoor_scenes_and_Donaudampfschifffahrt"
A4 = round((210 - 2 * 14) / 25.4 * 96)  # pixels between the margins that the page asks for
SHEET = (297 - 2 * 14) / 25.4 * 96
BEYOND = """(width) => [...document.querySelectorAll("table, th, td, bdi, svg, pre, dl, p, li")]
  .filter(e => e.getBoundingClientRect().right > width + 1)
  .map(e => `${e.closest("section")?.id} ${e.tagName} ${e.textContent.slice(0, 50)}`)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return reports of six and of twelve methods, and of 20 classes with long names (0)."""
    found = {}
    for n in (6, 12):
        root = tmp_path_factory.mktemp(f"runs{n}")
        for i, (method, overrides) in enumerate(list(METHODS.items())[:n]):
            for seed in (0, 1):
                fake_run(root / f"{i}-{seed}", method.rstrip(":"), seed, 1 + i / 10,
                         overrides=overrides, epochs=1)  # fmt: skip
        found[n] = report_runs([root], out=root / "r.html")[1][0]
    root = tmp_path_factory.mktemp("names")
    for seed in (0, 1):
        fake_run(root / str(seed), "open", seed, 1.0, counts=range(200, 0, -10), per_class=4,
                 names=[f"{LONG}{i}" for i in range(20)], epochs=1)  # fmt: skip
    found[0] = report_runs([root], out=root / "r.html")[1][0]
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a running browser."""
    with browser() as found:
        yield found


@pytest.mark.parametrize("n", [0, 6, 12])
def test_nothing_is_cut_on_paper(chromium, pages, n):
    """On an A4 sheet nothing reaches beyond the right margin, and each drawing fits a page."""
    page = chromium.new_page(viewport={"width": A4, "height": 900})
    page.goto(pages[n].as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("document.querySelectorAll('#classes table').length") > (2 if n else 0)
    assert page.evaluate(BEYOND, A4) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= A4
    heights = page.evaluate("""[...document.querySelectorAll("figure.drawing")]
      .map(e => e.getBoundingClientRect().height)""")
    assert max(heights) <= SHEET
    page.close()


@pytest.mark.parametrize("n", [6, 12])
def test_a_desktop_shows_every_column(chromium, pages, n):
    """At 1280 px no table has to be scrolled sideways."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages[n].as_uri())
    hidden = page.evaluate("""[...document.querySelectorAll(".scroll")]
      .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.getAttribute("aria-label"))""")
    assert hidden == []
    page.close()


def test_names_are_not_cut_inside_words(chromium, pages):
    """A method's name that takes several lines is broken after one of its marks."""
    page = chromium.new_page(viewport={"width": 390, "height": 900})
    page.goto(pages[12].as_uri())
    lines = page.evaluate(
        """[...document.querySelectorAll("#groups tbody th bdi")].map(bdi => {
          const found = [], range = document.createRange();
          const walk = document.createTreeWalker(bdi, NodeFilter.SHOW_TEXT);
          let bottom = null;
          for (let node = walk.nextNode(); node; node = walk.nextNode())
            for (let i = 0; i < node.length; i++) {
              range.setStart(node, i); range.setEnd(node, i + 1);
              const box = range.getBoundingClientRect();
              if (bottom === null || box.top > bottom - 2) { found.push(""); bottom = box.bottom; }
              found[found.length - 1] += node.data[i];
            }
          return found;
        })"""
    )
    cut = [line for name in lines for line in name[:-1]]
    assert len(cut) > 5
    assert all(line[-1] in ":+=_-" for line in cut), cut
    page.close()


def test_a_phone_shows_the_phases_whole(chromium, pages):
    """At 390 px what methods do is read without scrolling sideways, each cell with its head."""
    page = chromium.new_page(viewport={"width": 390, "height": 900})
    page.goto(pages[12].as_uri())
    cells = page.evaluate("""[...document.querySelectorAll("#protocol tbody td")]
      .filter(td => td.textContent.trim()).map(td => {
        const box = td.getBoundingClientRect();
        return [box.left, box.right, getComputedStyle(td, "::before").content];
      })""")
    assert len(cells) > 24
    assert all(0 <= left < right <= 390 for left, right, _ in cells)
    assert '"phases"' in {name for _, _, name in cells}
    assert page.evaluate("document.querySelector('#protocol .scroll').scrollWidth") <= 390
    page.close()
