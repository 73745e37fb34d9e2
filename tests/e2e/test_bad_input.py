"""Bad input gets one message that says what is wrong and what to do, and harms nothing."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

import purenoise as pn
from purenoise.checkpoint import load_state

from .support import SHORT, Command, make_images, only_run, snapshot


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short run."""
    out = tmp_path_factory.mktemp("run")
    return pn.train("digits", epochs=1, out=str(out), threads=1).folder


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("digts",), ("no recipe 'digts'", "Did you mean 'digits'?")),
        (("epochs=abc",), ("train.epochs", "whole number", "'abc'")),
        (("method=opne",), ("'opne'", "Did you mean 'open'?")),
        (("model=resnet31",), ("'resnet31'", "Did you mean 'resnet32'?")),
        (("threads=999",), ("threads=999", "cores")),
        (("delta=1.5",), ("delta", "at most 1", "1.5")),
        (("delta=-0.1",), ("delta", "at least 0", "-0.1")),
        (("ratio=0.5",), ("data.imbalance.ratio", "at least 1", "0.5")),
        (("ratio=2000",), ("ratio of 2000", "no image left", "smaller ratio")),
        (("epochs", "=", "5"), ("without spaces around =",)),
        (("epochs=", "5"), ("without spaces around =",)),
        (("augment=opn",), ("'opn'", "Did you mean 'open'?")),
        (("optimizer=sdg",), ("train.optimizer", "Did you mean 'sgd'?")),
        (("data=cifar10x",), ("no folder 'cifar10x'",)),
        (("data.name=digit",), ("'digit'", "Did you mean 'digits'?")),
        (("epochs=[1",), ("not valid YAML",)),
        (("epochs",), ("'epochs' is a key", "epochs=...")),
    ],
)
def test_bad_words_are_refused(command: Command, words: tuple[str, ...], texts: tuple[str, ...]):
    """Each wrong word on the command line is named, with what is allowed; nothing is written."""
    message = command.refused("train", *words)
    for text in texts:
        assert text in message
    assert not [*Path().iterdir()]


def test_all_faults_of_a_recipe_at_once(command: Command):
    """A recipe with several faults gets one message that names them all."""
    Path("bad.yaml").write_text(
        "data: {name: digits}\nepoch: 5\ntrain: {lr: fast, epochs: 0}\ndelta: 2\nmodl: small_cnn\n"
    )
    message = command.refused("train", "bad.yaml", "sede=1")
    assert "6 faults" in message
    for text in ("'epoch'", "train.lr", "train.epochs", "delta", "'modl'", "'sede'",
                 "Did you mean 'model'?"):  # fmt: skip
        assert text in message


@pytest.mark.parametrize(
    ("content", "text"),
    [("a: [1\nb: 2", "not valid YAML"), ("- 1\n- 2", "not keys and values"),
     ("seed: 1\nseed: 2", "stands twice"), ("\x00", "not valid YAML")],
)  # fmt: skip
def test_bad_yaml_is_refused(command: Command, content: str, text: str):
    """A file that is no recipe is named, with the reason."""
    Path("bad.yaml").write_text(content)
    assert text in command.refused("train", "bad.yaml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_refused(command: Command):
    """`device=cuda` without a GPU is refused with the way out."""
    message = command.refused("train", "device=cuda")
    assert "there is none" in message
    assert "device=auto" in message


def test_folder_of_images_as_a_recipe(command: Command):
    """Who gives a folder of images where a recipe belongs is told how to write it."""
    make_images(Path("photos"), {"a": 3, "b": 3})
    assert "data=photos" in command.refused("train", "photos")


def folders(root: Path) -> dict[str, str]:
    """Make unusable folders; return the name of each and a text its message must have."""
    (root / "empty").mkdir()
    make_images(root / "one", {"a": 5})
    make_images(root / "flat" / "..", {"flat": 5})
    make_images(root / "gone" / "train", {"a": 5})
    (root / "gone" / "train" / "b").mkdir()
    (root / "words").mkdir()
    for name in ("a", "b"):
        (root / "words" / name).mkdir()
        (root / "words" / name / "x.jpg").write_text("text")
    make_images(root / "untrained" / "train", {"a": 5, "c": 5})
    make_images(root / "untrained" / "test", {"a": 2, "b": 2})
    (root / "file").write_text("text")
    return {"missing": "no folder", "empty": "empty", "one": "class", "flat": "class folder",
            "gone": "b", "words": "x.jpg", "untrained": "b", "file": "file"}  # fmt: skip


@pytest.mark.parametrize("verb", ["train", "inspect"])
def test_unusable_folders_are_refused(command: Command, verb: str):
    """A folder without usable classes is refused with the reason; nothing is written."""
    for name, text in folders(Path()).items():
        message = command.refused(verb, f"data={name}" if verb == "train" else name)
        assert text in message, name
    assert not Path("runs").exists()


def test_unusable_files_are_named(command: Command):
    """Corrupt, non-image and 16-bit files are left out and named before training."""
    root = make_images(Path("photos"), {"a": 9, "b": 9})
    (root / "a" / "000.png").write_bytes((root / "a" / "000.png").read_bytes()[:80])
    (root / "a" / "words.jpg").write_text("text")
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(root / "b" / "deep.png")
    for words in (("inspect", "photos"), ("train", "data=photos", "model=small_cnn", *SHORT)):
        result = command(*words)
        assert result.code == 0
        flat = " ".join(result.out.split())
        for text in ("3 files cannot be used", "a/000.png", "a/words.jpg", "b/deep.png", "I;16"):
            assert text in flat


def test_labels_beyond_the_classes_are_refused():
    """Labels that are not 0..C-1 are refused by the samplers that every run uses."""
    with pytest.raises(pn.PureNoiseError, match="label is 7"):
        pn.ClassBalancedSampler([0, 1, 7], n_classes=3)
    with pytest.raises(pn.PureNoiseError, match="1"):
        pn.ClassBalancedSampler([0, 0, 2])


def test_absent_cifar_says_where_files_go(command: Command, monkeypatch):
    """Without network and files, CIFAR is refused quickly, with the place for its files."""

    def no_network(*_: Any, **__: Any) -> Any:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    message = command.refused("train", "cifar10-lt", "threads=1")
    assert "cifar-10-python.tar.gz" in message
    assert "purenoise train" in message
    assert not Path("runs").exists()


def test_run_folder_that_is_no_run(command: Command, run: Path):
    """Folders that are no run, and runs that are not finished, are refused by every reader."""
    Path("other").mkdir()
    Path("other/precious.txt").write_text("mine")
    Image.new("L", (8, 8)).save("x.png")
    half = Path("half")
    shutil.copytree(run, half)
    (half / "summary.json").unlink()
    for words in (("evaluate",), ("predict", "x.png")):
        assert "not the folder of a run" in command.refused(words[0], "other", *words[1:])
        message = command.refused(words[0], half, *words[1:])
        assert "not finished" in message
        assert "purenoise train half" in message


def test_folder_in_the_way_is_left_alone(command: Command):
    """A folder that is not a run, at the place of a run, is refused and keeps its files."""
    place = Path("runs/digits/open/seed-0")
    place.mkdir(parents=True)
    (place / "precious.txt").write_text("mine")
    assert "is not a run" in command.refused("train", "digits")
    assert snapshot(place) == {"precious.txt": b"mine"}
    shutil.rmtree("runs")
    Path("runs").write_text("a file")
    assert "cannot be written" in command.refused("train", "digits", *SHORT)


class Trap:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def spoil(kind: str, path: Path) -> str:
    """Replace weights by something else; return what the message must say."""
    tensors = load_file(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
        return "truncated"
    if kind == "empty":
        path.write_bytes(b"")
        return "truncated"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
        return "pickle"
    if kind == "torch":
        torch.save({"weights": Trap()}, path)
        return "pickle"
    if kind == "missing":
        path.unlink()
        return "no weights"
    name = next(iter(tensors))
    other = (
        tensors | {name: np.zeros((1, 2), np.float32)} if kind == "shape" else {"x": tensors[name]}
    )
    save_file(other, path)
    return "another model"


@pytest.mark.parametrize(
    "kind", ["truncated", "empty", "pickle", "torch", "missing", "shape", "names"]
)
def test_spoilt_weights_are_refused(command: Command, run: Path, kind: str):
    """Weights that are truncated, a pickle or another model's are refused, and no code runs."""
    shutil.copytree(run, "copy")
    text = spoil(kind, Path("copy/weights.safetensors"))
    Image.new("L", (8, 8)).save("x.png")
    before = snapshot(Path("copy"))
    for words in (("evaluate", "copy"), ("predict", "copy", "x.png")):
        assert text in command.refused(*words)
    assert snapshot(Path("copy")) == before
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", ["{}", "[1]", "{", '{"status": "finished"}'])
def test_spoilt_summary_is_refused(command: Command, run: Path, content: str):
    """A summary that is no summary is refused with what to do."""
    shutil.copytree(run, "copy")
    Path("copy/summary.json").write_text(content)
    for verb in ("train", "evaluate"):
        assert "summary.json cannot be read" in command.refused(verb, "copy")


def test_other_data_are_noticed(command: Command):
    """A run is not evaluated on a folder that has changed since."""
    make_images(Path("photos"), {"a": 9, "b": 6})
    assert command("train", "data=photos", "model=small_cnn", *SHORT).code == 0
    shutil.copy("photos/a/000.png", "photos/b/another.png")
    shutil.copy("photos/a/001.png", "photos/b/yet-another.png")
    assert "not those" in command.refused("evaluate", only_run(Path("runs")))


class Full:
    """A disk that is full from the n-th file on; entries of folders still fit."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, file: int) -> None:
        """Take the place of os.fsync."""
        self.left -= not stat.S_ISDIR(os.fstat(file).st_mode)
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("after", [0, 1, 4])
def test_full_disk_keeps_the_states_before(command: Command, monkeypatch, after: int):
    """On a full disk the run ends with a sentence, keeps its last state, and can go on later."""
    words = ("train", "digits", *SHORT, "save_seconds=0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Full(after))
        message = command.refused(*words)
    assert "No space left on device" in message
    assert "Free some space" in message
    assert not [*Path("runs").rglob("*.part")]
    if after > 1:
        found = load_state(only_run(Path("runs")) / "state")
        assert found is not None
        assert found[0].step == after - 2  # the recipe and the events are written first
    assert command(*words).code == 0
    expected = pn.train("digits", epochs=2, batch_size=128, threads=1, out="whole").folder
    again = load_file(only_run(Path("runs")) / "weights.safetensors")
    assert all(
        np.array_equal(w, again[k]) for k, w in load_file(expected / "weights.safetensors").items()
    )


def test_full_disk_while_logging(command: Command, monkeypatch):
    """When the log cannot be written the run ends with a sentence as well."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("purenoise.runlog.RunLog._write_metrics", full)
    assert "No space left on device" in command.refused("train", *SHORT)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_read_only_place_is_refused(command: Command):
    """A place that cannot be written is refused before data are loaded."""
    Path("shut").mkdir(mode=0o500)
    assert "cannot be written" in command.refused("train", "out=shut/runs")


def test_predict_refuses_what_is_not_there(command: Command, run: Path):
    """Missing paths, empty folders and unknown formats are named together."""
    Path("none").mkdir()
    message = command.refused("predict", run, "nothing.png", "none")
    assert "nothing.png does not exist" in message
    assert "none holds no image" in message
    Image.new("L", (8, 8)).save("x.png")
    assert "Did you mean 'json'?" in command.refused("predict", run, "x.png", "--format", "jsn")
