"""The pages hang together: links and anchors lead somewhere, every command and snippet is run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from benchmarks.rows import read

from purenoise.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
         ROOT / "examples" / "README.md", *sorted(DOCS.glob("*.md"))]  # fmt: skip
FENCE = re.compile(r"^( *)(```+)([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
NOT_RUN = {"text"}  # the word for what is shown and not run
# Which test runs the blocks of a page, and of which languages. yaml: the commands beside it use it.
RUN_BY: dict[str, tuple[str, set[str]]] = {
    "adjusting.md": ("tests/e2e/adjusting/test_words.py", {"sh"}),
    "api.md": ("tests/test_doctests.py", {"pycon"}),
    "comparing.md": ("tests/e2e/test_pages_run.py", {"sh"}),
    "data.md": ("tests/e2e/test_data_sets.py", {"sh", "python"}),
    "distributed.md": ("tests/e2e/test_pages_run.py", {"sh", "python"}),  # sh: test_torchrun.py
    "distributed-compare.md": ("tests/distributed/test_ray.py", {"sh"}),
    "export.md": ("tests/export/test_command.py", {"sh", "python"}),
    "extending.md": ("tests/e2e/test_pages_run.py", {"sh", "python", "yaml"}),
    "inloop.md": ("tests/test_inloop_page.py", {"python"}),
    "models.md": ("tests/e2e/test_models_page.py", {"bash", "python"}),
    "pitfalls.md": ("tests/e2e/test_pages_run.py", {"python"}),
    "recipes.md": ("tests/e2e/test_pages_run.py", {"sh", "yaml"}),
}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def prose(text: str) -> str:
    """Return a page without its code."""
    return re.sub(r"(`+)[^`].*?\1", "", FENCE.sub("", text))


def links(text: str) -> list[str]:
    """Return where the links of a page lead, except to other sites."""
    found = re.findall(r"\]\(([^()\s]+)\)", prose(text))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{i}" if i else slug for slug, n in found.items() for i in range(n + 1)}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    wrong = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.is_relative_to(ROOT) and target.exists()
        if there and anchor:
            there = anchor in anchors(target.read_text(encoding="utf-8"))
        if not there:
            wrong.append(link)
    return wrong


def blocks(text: str) -> list[tuple[str, str]]:
    """Return language and content of every fenced block."""
    return [(word.strip(), content) for _, _, word, content in FENCE.findall(text)]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file of the project, and its anchor to a heading of it."""
    assert not broken(page)


def test_broken_links_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check finds a missing file, a missing anchor and a way out, and leaves code alone."""
    monkeypatch.setitem(broken.__globals__, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text(
        "# A `b`: c_d\n## A\n## A\n[1](#a-b-c_d) [2](#a-1) [3](a.md#a) [4](#gone) [5](b.md)\n"
        "[6](../x.md) [two\nlines](c.md) `[7](d.md)`\n```text\n[8](e.md)\n# No\n```\n[9](#no)\n"
        "[10](https://example.org/x)\n"
    )
    assert broken(tmp_path / "a.md") == ["#gone", "b.md", "../x.md", "c.md", "#no"]


def test_the_index_names_every_page_once() -> None:
    """docs/README.md leads to every page of the folder."""
    found = [link.partition("#")[0] for link in links((DOCS / "README.md").read_text())]
    assert sorted(found) == sorted(p.name for p in DOCS.glob("*.md") if p.name != "README.md")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda p: p.name)
def test_every_block_is_run(page: Path) -> None:
    """A block of docs/ is in a language that a named test runs, or is marked as text."""
    found = {word for word, _ in blocks(page.read_text(encoding="utf-8"))} - NOT_RUN
    test, languages = RUN_BY.get(page.name, ("", set()))
    assert found == languages, f"{page.name} has {found}, and {test or 'no test'} runs {languages}"
    if test:
        code = (ROOT / test).read_text(encoding="utf-8")
        if page.name != "api.md":  # whose examples are run where they are written, in docstrings
            assert page.name in code
            assert all(re.search(rf"\b{language}\b", code) for language in languages)


@each_page
def test_fences_are_closed(page: Path) -> None:
    """Every fence that is opened is closed, and no block is without a language."""
    text = page.read_text(encoding="utf-8")
    assert "```" not in FENCE.sub("", text)
    assert all(word for word, _ in blocks(text))


def test_recipes_that_the_readme_names_can_be_loaded() -> None:
    """Every `purenoise train` and `compare` of the README has a recipe and keys that there are."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    seen = 0
    for line in (
        line for word, block in blocks(text) if word == "sh" for line in block.split("\n")
    ):
        for words in re.findall(r"purenoise (?:train|compare) ?([^&|]*)", line):
            own = ("methods=", "seeds=", "jobs=", "baseline=", "share=")
            names = [w for w in words.split() if not w.startswith(own)]
            recipe = names[0] if names and "=" not in names[0] else None
            assert load_recipe(recipe, [w for w in names if "=" in w]).train.epochs > 0
            seen += 1
    assert seen > 4


def test_numbers_of_two_processes_are_measured() -> None:
    """The ratios in docs/distributed.md are the medians of the rows that the benchmark wrote."""
    wanted = ("processes", "2 processes / 1: images")
    rows = [
        r
        for r in read(ROOT / "benchmarks" / "results" / "cpu.csv")
        if (r["benchmark"], r["metric"]) == wanted
    ]
    text = " ".join((ROOT / "docs" / "distributed.md").read_text(encoding="utf-8").split())
    numbers = r"did ([\d.]+) of the images .* and ([\d.]+) with a WRN-16-4 \(medians of (\d+)"
    said = re.search(numbers, text)
    assert said is not None
    found = {r["case"].split()[0]: f"{float(r['median']):.2f}" for r in rows}
    assert said.groups() == (found["resnet32"], found["wide_resnet16_4"], rows[0]["n"])


def test_numbers_of_the_models_are_those_of_the_rows() -> None:
    """What docs/export.md says of models that were tried is counted from the kept rows."""
    with (ROOT / "benchmarks" / "results" / "zoo.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    text = " ".join((ROOT / "docs" / "export.md").read_text(encoding="utf-8").split())
    worst = {r["model"]: float(r["ONNX"]) for r in rows if re.fullmatch(r"[\d.e+-]+", r["ONNX"])}
    failed = [r["model"] for r in rows if r["model"] not in worst]
    assert all(r["OPeN step"] == "ok" and r["torch.export"] == "0" for r in rows)
    assert f"{len(rows)} models, each with an OPeN step" in text
    assert f"took {len(rows)} of them, ONNX {len(worst)} (not `{', '.join(failed)}`" in text
    assert f"largest difference was {max(worst.values()):.0e} of the largest logit" in text
