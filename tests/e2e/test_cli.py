"""The command line as a user meets it: train, evaluate, predict, inspect, recipes, doctor."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import purenoise as pn
from purenoise.terminal.plaintext import printable

from .support import (
    SHORT,
    Command,
    equal_weights,
    in_own_process,
    make_images,
    only_run,
    program,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short run on digits."""
    out = tmp_path_factory.mktemp("run")
    return pn.train("digits", epochs=5, out=str(out), threads=1).folder


@pytest.fixture(scope="module")
def photo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short run on made-up images whose class names are hostile."""
    root = tmp_path_factory.mktemp("photos")
    make_images(root, {"[red]x": 12, "<script>": 8, "tab\tand\x1b[31m": 6, "[": 6})
    out = tmp_path_factory.mktemp("photo-runs")
    return pn.train(
        data=str(root), out=str(out), epochs=1, model="small_cnn", threads=1, batch_size=8
    ).folder


def test_help_is_instant_and_without_torch():
    """`purenoise --help` answers in half a second and imports no torch."""
    script = (
        "import sys; sys.argv = ['purenoise', '--help']\n"
        "from purenoise.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', sorted({'torch', 'numpy', 'sklearn'} & set(sys.modules)))"
    )
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                              check=True)  # fmt: skip
        best = min(best, time.perf_counter() - started)
        if best < 0.5:
            break
    assert "LOADED []" in done.stdout
    for verb in ("train", "evaluate", "predict", "inspect", "recipes", "doctor"):
        assert verb in done.stdout
    assert best < 0.5


def test_module_runs_like_the_command(tmp_path: Path):
    """`python -m purenoise` trains, ends with tables, the folder and the next command."""
    done = in_own_process("train", *SHORT, cwd=tmp_path, module=True)
    assert (done.returncode, done.stderr) == (0, "")
    folder = only_run(tmp_path / "runs")
    assert f"run folder: {folder.relative_to(tmp_path)}" in done.stdout
    assert "try next:   purenoise train epochs=2 batch_size=128 threads=1 method=drs" in done.stdout
    for text in (
        "balanced accuracy %",
        "few",
        "from epoch 2: class-balanced sampling, noise: open",
    ):
        assert text in done.stdout


def test_next_command_works(command: Command):
    """The command to try next can be run as it stands and lands beside the first run."""
    first = command("train", "digits", *SHORT, "seed=3")
    words = first.out.partition("try next:   ")[2].split()
    assert words == ["purenoise", "train", "digits", *SHORT, "method=drs", "seed=3"]
    second = command(*words[1:])
    assert second.code == 0
    assert {p.parent.name for p in Path("runs").rglob("seed-3")} == {"open", "drs"}
    assert len([*Path("runs").iterdir()]) == 1


def test_overrides_have_folders_of_their_own(command: Command):
    """A change gives a suffix, the same change the same suffix, another change another."""
    for change in ("delta=0.5", "delta=0.4", "delta=0.5"):
        assert command("train", *SHORT, change).code == 0
    names = sorted(p.name for p in Path("runs").iterdir())
    assert len(names) == 2
    assert all(name.startswith("digits-") and len(name) == len("digits-") + 8 for name in names)


def test_two_folders_of_images_have_runs_of_their_own(command: Command):
    """A second folder of images does not meet the first one's run."""
    for name in ("a", "b"):
        make_images(Path(name), {"cat": 8, "dog": 6})
        assert command("train", f"data={name}", "model=small_cnn", *SHORT).code == 0
    assert len([*Path("runs").iterdir()]) == 2


def test_a_run_folder_moves_no_cursor(run: Path, tmp_path: Path, command: Command):
    """A folder whose name holds commands for the terminal is printed without them, on one line."""
    folder = tmp_path / "a\x1b]0;pwn\x07\u202eb\nc"
    shutil.copytree(run, folder)
    done = command("train", folder)
    assert (done.code, done.err) == (0, "")
    assert printable(done.out) == done.out
    (line,) = [line for line in done.out.splitlines() if line.startswith("run folder: ")]
    assert line.endswith("a\ufffd]0;pwn\ufffd\ufffdb c")


def test_a_class_name_stays_on_its_row(command: Command):
    """A newline or a command in a class name splits no row of a table."""
    make_images(Path("photos"), {"one\ntwo": 8, "three\x1b[2J": 8})
    words = ("model=small_cnn", "epochs=1", "batch_size=8", "threads=1")
    for done in (command("train", "data=photos", *words), command("inspect", "photos")):
        assert done.code == 0
        rows = [line.split() for line in done.out.splitlines()]
        assert [row[:2] for row in rows].count(["one", "two"]) == 1
        assert [row[0] for row in rows if row].count("three\ufffd[2J") == 1


def test_evaluate_repeats_the_summary(run: Path, command: Command):
    """`evaluate --json` gives the metrics of the summary, and the table their numbers."""
    result = command("evaluate", run, "--json")
    summary = json.loads((run / "summary.json").read_text())
    assert json.loads(result.out)["test"] == summary["test"]
    table = command("evaluate", run)
    assert table.code == 0
    assert f"{100 * summary['test']['accuracy']:.1f}" in table.out


def test_validation_images_are_held_out(command: Command):
    """With val_fraction the run has validation metrics, and every class keeps an image."""
    assert command("train", "val_fraction=0.5", *SHORT).code == 0
    summary = json.loads((only_run(Path("runs")) / "summary.json").read_text())
    assert summary["n_val"] + summary["n_train"] == 359
    assert min(summary["counts"]) >= 1
    assert summary["val"]["accuracy"] > 0
    result = command("evaluate", only_run(Path("runs")))
    assert "· val" in result.out
    assert "· test" in result.out


def test_predict_names_classes_and_broken_images(run: Path, command: Command):
    """Readable images are predicted, broken ones are listed, and the exit code says so."""
    from purenoise.data.digits import load_digits

    test = load_digits().test
    folder = Path("images")
    folder.mkdir()
    for i in range(20):
        Image.fromarray(test.images.load(np.array([i]))[0, 0]).save(folder / f"{i:02}.png")
    fine = command("predict", run, folder)
    assert (fine.code, fine.err) == (0, "")
    (folder / "broken.png").write_bytes((folder / "00.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.txt").write_text("not meant to be an image")

    table = command("predict", run, folder)
    assert table.code == 2
    assert "2 of 22 images could not be read" in table.err
    assert "notes.txt" not in table.out

    rows = json.loads(command("predict", run, folder, "--format", "json", "--top", "2").out)
    assert [Path(r["image"]).name for r in rows if r["error"]] == ["broken.png", "text.jpg"]
    kept = np.load(run / "predictions.npz")["logits"][:20]
    assert [r["class"] for r in rows if not r["error"]] == [str(c) for c in kept.argmax(1)]
    assert all(len(r["top"]) == 2 for r in rows if not r["error"])

    lines = [*csv.DictReader(io.StringIO(command("predict", run, folder, "--format", "csv").out))]
    assert len(lines) == 22
    assert [line["class_1"] for line in lines if not line["error"]] == [
        r["class"] for r in rows if not r["error"]
    ]
    one = command("predict", run, folder / "03.png")
    assert one.code == 0
    assert "03.png" in one.out


@pytest.mark.parametrize("columns", ["40", "200"])
def test_hostile_class_names_are_only_text(
    photo_run: Path, command: Command, monkeypatch, columns: str
):
    """Markup, tags and escape sequences in class names are shown as text at every width."""
    monkeypatch.setenv("COLUMNS", columns)
    image = Path("x.png")
    Image.new("RGB", (20, 9), "red").save(image)
    for words in (("evaluate", photo_run), ("train", photo_run)):
        result = command(*words)
        assert (result.code, result.err) == (0, "")
        assert "\x1b" not in result.out
        assert "[red]x" in result.out
        assert "<script>" in result.out
    words = ("predict", photo_run, image, "--top", "9")
    assert "\x1b" not in command(*words).out
    (found,) = json.loads(command(*words, "--format", "json").out)
    assert {p["class"] for p in found["top"]} == {"[red]x", "<script>", "tab\tand\x1b[31m", "["}


def test_closing_tags_in_class_names_are_only_text(photo_run: Path, command: Command):
    """A class name that closes a tag, which no folder can be called, breaks no table either."""
    copy = Path("copy")
    shutil.copytree(photo_run, copy)
    summary = json.loads((copy / "summary.json").read_text())
    summary["class_names"] = ["[red]x[/red]", "[/]", "[/bold]", "[link=x]y"]
    del summary["sha256"]  # as it was before summaries had one
    (copy / "summary.json").write_text(json.dumps(summary))
    result = command("train", copy)
    assert result.code == 0
    assert all(name in result.out for name in summary["class_names"])


def test_folder_of_mixed_images(command: Command, tmp_path: Path):
    """Grey, colour, odd sizes and EXIF rotation train, evaluate and predict together."""
    for split, n in (("train", 9), ("val", 4), ("test", 5)):
        make_images(tmp_path / "data" / split, {"a": n, "b": n - 2})
    Image.new("L", (31, 17), 90).save(tmp_path / "data/train/a/grey.png")
    turned = Image.new("RGB", (20, 40), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "data/train/b/turned.jpg", exif=exif)
    assert command("train", "data=data", "model=small_cnn", "image_size=16", *SHORT).code == 0
    folder = only_run(Path("runs"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["counts"] == [10, 8]
    assert summary["image_shape"] == [3, 16, 16]
    assert (summary["n_val"], summary["n_test"]) == (6, 8)
    assert command("predict", folder, "data/train/b/turned.jpg", "data/train/a/grey.png").code == 0


def test_one_tree_of_grey_images_is_split(command: Command):
    """One tree of class folders gets a test set of its own; grey images stay grey."""
    make_images(Path("tree"), {"a": 20, "b": 10, "c": 1}, grey=True)
    result = command("train", "data=tree", "model=small_cnn", *SHORT)
    assert result.code == 0
    summary = json.loads((only_run(Path("runs")) / "summary.json").read_text())
    assert summary["image_shape"] == [1, 12, 12]
    assert summary["counts"] == [16, 8, 1]
    assert summary["test"]["per_class"][2] is None
    assert "n/a" in result.out


def test_streaming_gives_the_weights_of_memory(command: Command):
    """Images read from disk in every epoch give the same weights as images in memory."""
    make_images(Path("tree"), {"a": 30, "b": 12})
    for name in ("memory_mib=1024", "memory_mib=0"):
        words = ("train", "data=tree", "model=small_cnn", name, f"out={name}", "epochs=3",
                 "batch_size=8", "threads=1")  # fmt: skip
        assert command(*words).code == 0
    assert equal_weights(only_run(Path("memory_mib=1024")), only_run(Path("memory_mib=0")))


def test_values_of_python_train(command: Command, tmp_path: Path):
    """`pn.train` takes paths, numpy's numbers and mappings, and a path as the recipe."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("data: digits\nmodel: small_cnn\nthreads: 1\n", encoding="utf-8")
    imbalance = {"type": "step", "ratio": 5}
    options = {"epochs": np.int64(1), "lr": np.float32(0.1), "out": tmp_path / "runs"}
    run = pn.train(mine, imbalance=imbalance, **options)
    assert run.folder.is_relative_to(tmp_path / "runs")
    assert run.summary["counts"] == 5 * [124] + 5 * [24]
    assert not pn.train(mine, imbalance=imbalance, **options).trained
    make_images(tmp_path / "photos", {"a": 9, "b": 9})
    photos = pn.train(data=tmp_path / "photos", model="small_cnn", threads=1, **options)
    assert photos.summary["class_names"] == ["a", "b"]


def test_output_is_plain_where_the_terminal_is_poor(run: Path, tmp_path: Path):
    """A terminal that knows only ASCII gets the tables too, with marks in place of signs."""
    done = subprocess.run(
        [*program(), "train", str(run)], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONIOENCODING": "ascii", "COLUMNS": "40", "PATH": ""},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "balanced accuracy" in done.stdout
