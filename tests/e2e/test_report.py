"""The report as its reader meets it: made by the command from real runs, opened in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import purenoise as pn
from purenoise.report import report_runs

from .browser import browser
from .support import SHORT, Command, make_images, only_run, snapshot

WIDTHS = (360, 1280)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return short runs of two methods with two seeds."""
    out = tmp_path_factory.mktemp("runs")
    for method in ("drs", "open"):
        for seed in (0, 1):
            pn.train("digits", method=method, seed=seed, epochs=4, out=str(out), threads=1)
    return out


@pytest.fixture(scope="module")
def page_file(runs: Path) -> Path:
    """Return their report."""
    return report_runs([runs])[1][0]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a running browser."""
    with browser() as found:
        yield found


def opened(chromium: Any, file: Path, width: int = 1280, **options: Any) -> tuple[Any, list[str]]:
    """Open a file; return the page, and a list of all that it complains of or asks the network."""
    page = chromium.new_page(viewport={"width": width, "height": 800}, **options)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else
            wrong.append(r.url))  # fmt: skip
    page.goto(file.as_uri())
    return page, wrong


def test_a_phone_shows_the_main_numbers_without_scrolling(chromium, page_file):
    """At 390 px accuracy, difference and p of every method are on the screen, with their names."""
    page, wrong = opened(chromium, page_file, 390)
    cells = page.evaluate(
        """[...document.querySelectorAll("#in-short tbody td")].filter(
          td => td.offsetParent).map(td => {
          const box = td.getBoundingClientRect();
          return [box.left, box.right, getComputedStyle(td, "::before").content];
        })"""
    )
    assert len(cells) > 5
    assert page.evaluate(
        """[...document.querySelectorAll("#in-short tbody td")].every(
          td => !td.offsetParent == !td.textContent.trim())"""
    ), "heads stand over nothing"
    assert all(0 <= left < right <= 390 for left, right, _ in cells)
    named = {name.strip('"') for _, _, name in cells}
    assert {"accuracy %", "difference, points", "p", "p after Holm"} <= named
    scroll = page.evaluate("document.querySelector('#in-short .scroll').scrollWidth")
    assert scroll <= 390
    assert not wrong
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_is_quiet(chromium, page_file, width, scheme):
    """On a phone and a desktop, light and dark: nothing stands over, loads or complains."""
    page, wrong = opened(chromium, page_file, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert wrong == []
    for tag in ("img", "svg"):
        assert page.locator(tag).count() > 5
    unnamed = page.evaluate("""() => [...document.querySelectorAll('img, svg')].filter(e =>
        !(e.alt || e.querySelector('title')?.textContent)).length""")
    assert unnamed == 0
    page.close()


def test_letters_can_be_told_from_the_ground(chromium, page_file):
    """In light and dark alike, text on the page and in drawings has a contrast of at least 4.5."""
    for scheme in ("light", "dark"):
        page, _ = opened(chromium, page_file, color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        for place, what in (("p.verdict", "color"), ("figcaption", "color"), ("svg text", "fill")):
            colour = page.evaluate(
                f"getComputedStyle(document.querySelector('{place}')).{what}"
            )  # fmt: skip
            assert contrast(colour, ground) >= 4.5, (scheme, place)
        page.close()


def contrast(one: str, other: str) -> float:
    """Return the contrast of two CSS colours as WCAG 2 defines it."""

    def light(colour: str) -> float:
        parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_all_is_there_without_scripts(chromium, page_file):
    """With scripts switched off the page says the same."""
    with_scripts, _ = opened(chromium, page_file)
    without, wrong = opened(chromium, page_file, java_script_enabled=False)
    assert without.locator("body").inner_text() == with_scripts.locator("body").inner_text()
    assert without.locator("thead button").count() == 0
    assert wrong == []
    with_scripts.close()
    without.close()


def test_tables_can_be_sorted(chromium, page_file):
    """A head sorts its table down and up by the numbers, also from the keyboard, and says so."""
    page, wrong = opened(chromium, page_file)
    table = page.locator("#classes table").first
    head = table.locator("thead th").nth(1)
    values = "t => [...t.tBodies[0].rows].map(r => Number(r.cells[1].dataset.value))"
    head.locator("button").click()
    down = table.evaluate(values)
    assert down == sorted(down, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").press("Enter")
    assert table.evaluate(values) == sorted(down)
    assert head.get_attribute("aria-sort") == "ascending"
    assert wrong == []
    page.close()


def test_it_prints(chromium, page_file):
    """It prints to PDF, dark as the screen may be, on a handful of pages."""
    page, _ = opened(chromium, page_file, color_scheme="dark")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 14
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


def test_nothing_injected_runs(chromium, tmp_path):
    """A page of a folder whose classes are called like markup shows it and runs nothing."""
    names = {"<img src=x onerror=alert(1)>": 9, "<script>alert(2)<": 6, "\u202eevil": 6}
    make_images(tmp_path / "data", {k.replace("/", ""): n for k, n in names.items()})
    run = pn.train(data=str(tmp_path / "data"), out=str(tmp_path / "out"), epochs=1, threads=1,
                   model="small_cnn", batch_size=8)  # fmt: skip
    page, wrong = opened(chromium, report_runs([run.folder])[1][0], 360)
    assert wrong == []
    assert page.locator("script").count() == 1
    assert "<img src=x onerror=alert(1)>" in page.locator("#classes").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()


WATCH = """window.broken = [];
addEventListener("securitypolicyviolation", e => broken.push(e.violatedDirective));"""
INTRUDERS = """() => {
  const say = (tag, more) => document.body.appendChild(Object.assign(
    document.createElement(tag), more));
  say("script", {textContent: "window.intruder = 1"});
  say("img", {src: "https://example.org/x.png"});
  say("iframe", {src: "https://example.org/"});
  document.body.setAttribute("onclick", "window.intruder = 1");
  document.body.click();
}"""


def test_its_policy_holds_and_is_kept(chromium, page_file):
    """The page keeps its own security policy; what is slipped into it comes to nothing."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page_file.read_text())
    assert policy
    parts = dict(p.strip().split(" ", 1) for p in policy[1].split(";"))
    assert parts["default-src"] == parts["base-uri"] == parts["form-action"] == "'none'"
    assert parts["img-src"] == "data:"
    assert re.fullmatch("'sha256-[A-Za-z0-9+/=]{44}'", parts["script-src"])
    page = chromium.new_page()
    page.add_init_script(WATCH)
    page.goto(page_file.as_uri())
    page.locator("#classes thead button").first.click()  # the one script runs
    assert page.evaluate("broken") == []
    page.evaluate(INTRUDERS)
    page.wait_for_function("broken.length >= 4")
    assert page.evaluate("window.intruder === undefined")
    kinds = " ".join(page.evaluate("broken"))
    assert all(kind in kinds for kind in ("script-src", "img-src", "frame-src"))
    page.close()


def test_pictures_come_from_the_data(page_file):
    """The page of real runs shows noise, training images and test images that changed sides."""
    text = page_file.read_text(encoding="utf-8")
    assert text.count('alt="noise image') == 8
    assert text.count('alt="training image of class') == 8
    assert re.search(r'alt="test image of class \d, taken for', text)


def test_training_leaves_a_page(command: Command):
    """`purenoise train` writes the page of its run into the folder, and not a second time."""
    result = command("train", "method=erm", *SHORT)
    assert result.code == 0, result
    page = only_run(Path("runs")) / "report.html"
    assert "erm on digits" in page.read_text(encoding="utf-8")
    before = page.stat().st_mtime_ns
    assert command("train", "method=erm", *SHORT).code == 0
    assert page.stat().st_mtime_ns == before


def test_the_command_writes_three_files_and_says_so(command: Command, runs: Path):
    """`purenoise report` prints verdicts and the three files that it wrote."""
    result = command("report", runs, "out=r.html", "baseline=drs")
    assert result.code == 0, result
    assert "open against drs:" in result.out
    for name in ("r.html", "r.md", "r.csv"):
        assert name in result.out
        assert Path(name).stat().st_size > 1000


def test_mistakes_are_sentences_and_write_nothing(command: Command, runs: Path):
    """No run, other protocols, an unknown baseline or option: a message, and nothing is written."""
    pn.train("digits", method="erm", epochs=1, out="other", threads=1)
    before = snapshot(Path())
    assert "There is no folder 'nowhere'" in command.refused("report", "nowhere")
    assert "no comparison" in command.refused("report", runs, "other", "out=r.html")
    assert "Did you mean 'drs'?" in command.refused("report", runs, "baseline=dsr", "out=r.html")
    assert "Unknown option 'ot'" in command.refused("report", runs, "ot=r.html")
    assert snapshot(Path()) == before
    assert command("report", runs, "other", "out=r.html", "mixed=true").code == 0
    assert "Not by one protocol" in Path("r.md").read_text(encoding="utf-8")


def test_images_of_no_class_of_ones_own(command: Command, runs: Path):
    """`no_class=FOLDER` asks the networks about that folder in place of the photographs."""
    make_images(Path("else"), {"a": 7})
    assert command("report", runs, "out=r.html", "no_class=else").code == 0
    assert "7 images of 'else'" in Path("r.html").read_text(encoding="utf-8").replace("&#39;", "'")
