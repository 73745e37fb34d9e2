"""Every kind of data through the command: inspect, train, evaluate, predict, and mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

import purenoise as pn
from purenoise.errors import DataError, RunError

from ..data import made
from .support import Command, equal_weights, make_images, only_run

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
SMALL = ("epochs=1", "batch_size=8", "threads=1", "model=small_cnn", "augment=crop", "method=open")


def pets(root: Path) -> Path:
    """Write a data set of Hugging Face, as `save_to_disk` does."""
    folder = make_images(root.parent / "pet-files", {"cat": 8, "dog": 4})
    files = sorted(folder.rglob("*.png"))
    rows = {"image": [str(f) for f in files], "label": [int(f.parent.name == "dog") for f in files]}
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(root))
    return root


def listed(root: Path) -> Path:
    """Write two lists, and the images that they name beside them."""
    rows = {
        "train.txt": [(f"{c}/{i}.png", k) for k, c in enumerate(("cat", "dog")) for i in range(8)],
        "test.txt": [(f"{c}/t{i}.png", k) for k, c in enumerate(("cat", "dog")) for i in range(2)],
    }
    made.write_lists(root / "photos", rows)
    (root / "lists").mkdir()
    for name in rows:
        (root / "photos" / name).rename(root / "lists" / name)
    return root


def all_trees(root: Path) -> Path:
    """Write a small tree for every command of the page."""
    listed(root)
    made.medmnist(root / "bloodmnist.npz", colour=True)
    pets(root / "pets")
    made.fashion_mnist(root / "data", (1000, 20))
    made.imagenet_lt(root / "imagenet")
    made.places_lt(root / "places", second_layout=True)
    made.inat2018(root / "inat2018")
    made.celeba(root / "celeba", 900)
    return root


def commands() -> list[str]:
    """Return the commands of the page."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the trees, made once."""
    return all_trees(tmp_path_factory.mktemp("trees"))


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_page_runs(line, command: Command, trees, tmp_path, monkeypatch):
    """Each command of docs/data.md does what it says, on a made-up tree in the set's layout."""
    monkeypatch.chdir(trees)
    program, verb, *words = line.split()
    assert program == "purenoise"
    if verb == "inspect":
        found = json.loads(command("inspect", *words, "image_size=16", "--json").out)
        assert min(row["train"] for row in found["classes"]) >= 1
        assert found["facts"]["imbalance ratio"] >= 1
        return
    result = command("train", *words, *SMALL, "image_size=16", f"out={tmp_path / 'runs'}")
    assert result.code == 0, result.err
    run = only_run(tmp_path / "runs")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["fingerprint"]
    assert len(summary["counts"]) == len(summary["class_names"]) >= 2
    checked = json.loads(command("evaluate", run, "--json").out)
    assert checked["test"]["accuracy"] == pytest.approx(summary["test"]["accuracy"], abs=1e-6)
    image = made.picture(tmp_path / "new.png", 0, 5)
    (said,) = json.loads(command("predict", run, image, "--format", "json").out)
    assert said["class"] in summary["class_names"]


def test_the_page_names_every_kind():
    """The page has a command for every recipe that is about data."""
    text = DOCS.read_text(encoding="utf-8")
    for word in ("imagenet-lt", "places-lt", "inat2018", "celeba5", ".npz", "hf:", "torchvision:",
                 ".txt", "photos/"):  # fmt: skip
        assert any(word in line for line in commands()), word
    assert "ArrayData" in text


def test_the_pages_python_runs(tmp_path, monkeypatch, capsys):
    """The snippet on arrays trains a run."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "data.md", "exec"), scope)
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1
    assert (scope["run"].folder / "weights.safetensors").is_file()


def arrays(seed: int = 0) -> pn.ArrayData:
    """Return two classes of 24 and 8 images."""
    x = np.random.default_rng(seed).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
    return pn.ArrayData(x, np.repeat([0, 1], [24, 8]), x[::4], np.repeat([0, 1], [6, 2]))


OPTIONS = {"epochs": 2, "batch_size": 8, "threads": 1, "model": "small_cnn", "method": "open"}


def test_a_run_on_arrays_knows_its_arrays(tmp_path, monkeypatch, command: Command):
    """The same arrays find their run; others make another; without them it cannot be evaluated."""
    first = pn.train(data=arrays(), **OPTIONS)
    again = pn.train(data=arrays(), **OPTIONS)
    assert again.folder == first.folder
    assert not again.trained
    other = pn.train(data=arrays(1), **OPTIONS)
    assert other.folder != first.folder
    assert other.summary["fingerprint"] != first.summary["fingerprint"]
    assert first.summary["counts"] == [24, 8]
    for verb in ("evaluate", "train"):
        if verb == "train":
            (first.folder / "summary.json").unlink()
        said = command.refused(verb, first.folder)
        assert "NumPy arrays that were given in Python, and they are not here" in said
        assert "data=FILE.npz" in said
    with pytest.raises(RunError, match="processes of its own, which do not have the arrays"):
        pn.compare(data=arrays(), methods=["erm", "open"])


def test_a_run_on_arrays_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Stopped in the middle and called again, it ends with the same weights, bit for bit."""
    monkeypatch.chdir(tmp_path)
    whole = pn.train(data=arrays(), out="a", **OPTIONS)
    from purenoise.training import Fit

    epochs: list[int] = []
    original = Fit.run

    def stops(self, state):
        before = self.on_epoch

        def on_epoch(kept):
            before(kept)
            epochs.append(kept.epoch)
            self.should_stop = lambda: True

        self.on_epoch = on_epoch
        return original(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "run", stops)
        with pytest.raises(RunError, match="Stopped") as caught:
            pn.train(data=arrays(), out="b", **OPTIONS)
    assert epochs
    assert "the same call of purenoise.train, with the same arrays" in caught.value.hint
    after = pn.train(data=arrays(), out="b", **OPTIONS)
    assert after.trained
    assert equal_weights(whole.folder, after.folder)


def test_recipes_take_arrays(tmp_path, monkeypatch):
    """A named recipe keeps its imbalance and schedule on arrays; wrong arrays are refused."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    data = pn.ArrayData(x, np.arange(40) % 2, x[:8], np.arange(8) % 2)
    run = pn.train("digits", data=data, epochs=1, **{"data.imbalance.ratio": 5})
    assert run.summary["counts"] == [20, 4]
    from purenoise.prepare import prepare
    from purenoise.recipe import load_recipe

    section = load_recipe(run.folder).data
    with pytest.raises(DataError, match="These are not the arrays of the recipe"):
        prepare(section, arrays=arrays())


def test_a_list_run_refuses_a_changed_list(tmp_path, command: Command):
    """A run on lists is found again from anywhere, and refused when a label has changed."""
    listed(tmp_path)
    words = ("data=lists/train.txt", "data.root=photos", "data.test_list=lists/test.txt", *SMALL)
    assert command("train", *words).code == 0
    run = only_run(tmp_path / "runs")
    command.monkeypatch.chdir(tmp_path / "photos")
    assert command("evaluate", run).code == 0
    text = (tmp_path / "lists/train.txt").read_text()
    (tmp_path / "lists/train.txt").write_text(text.replace("cat/0.png 0", "cat/0.png 1"))
    assert "have changed since" in command.refused("evaluate", run)
    command.monkeypatch.chdir(tmp_path)
    assert "have changed since" in command.refused("train", *words)


def test_bad_lists_stop_before_training(tmp_path, command: Command):
    """All faults of the lists come in one message, exit code 2, and no run folder is made."""
    listed(tmp_path)
    with (tmp_path / "lists/train.txt").open("ab") as file:
        file.write(b"/etc/passwd 0\n../x.png 1\ncat/gone.png 0\ncaf\xe9.png 1\ncat/t0.png 3\n")
    said = command.refused(
        "train", "data=lists/train.txt", "data.root=photos", "data.test_list=lists/test.txt"
    )
    for part in (
        "paths that are not relative, with /: 1: train.txt line 17 '/etc/passwd'",
        "paths with ..: 1: train.txt line 18",
        "missing files: 1: train.txt line 19 'cat/gone.png'",
        "lines that are not UTF-8: 1: train.txt line 20",
        "images in two lists, with two labels: 1: test.txt line 1 'cat/t0.png' and train.txt",
        "classes without a training image: 1: class 2",
    ):  # fmt: skip
        assert part in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data=nope.txt",), "The list 'nope.txt' cannot be read: No such file"),
        (("data=nope.npz",), "There is no file 'nope.npz'."),
        (("data=hf:nope",), "There is no folder 'nope'."),
        (("data=torchvision:SVHM",), "Did you mean 'SVHN'?"),
        (("data=torchvision:SVHN", "data.root=nope"), "nope' or cannot be read: Dataset not found"),
        (("imagenet-lt",), "There is no folder 'data/imagenet'."),
        (("celeba5",), "There is no folder 'data/celeba'."),
        (("data.name=npz",), "data.name is npz, and data.root is not set."),
        (("list",), "There is no training list."),
        (("data.name=arrays",), "NumPy arrays that were given in Python"),
        (("digits", "decode=later"), "decode is for list, imagenet-lt"),
    ],
)
def test_mistakes_are_one_sentence(words, said, tmp_path, command: Command):
    """Each mistake about data is one message with exit code 2, and nothing is written."""
    assert said in command.refused("train", *words)
    assert not list(tmp_path.iterdir())


def test_inspect_takes_photographs_by_list(tmp_path, command: Command):
    """`inspect` on a list shows files, and what a broken image does."""
    listed(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/cat/0.png")
    (tmp_path / "photos/cat/1.png").write_bytes(b"no image")
    result = command("inspect", "lists/train.txt", "data.root=photos")
    assert result.code == 0
    assert "unusable files" in result.out
    assert "cat/1.png" in " ".join(result.out.split())
