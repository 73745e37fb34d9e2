"""Downloads that break off, lie or hang: one sentence, nothing left, and the next one succeeds."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from purenoise.data import fetching
from purenoise.data.fetching import archives_in, aside
from purenoise.errors import ModelError
from purenoise.models import build_model

from ..hostile.kind import RefusedError, command
from .server import HOWS, Server, serving
from .test_cifar import archive, fake

PATIENCE = 0.25  # seconds, in place of 20


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a short time for a byte, and go to this machine without a proxy."""
    monkeypatch.setattr(fetching, "TIMEOUT", PATIENCE)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def shown(text: str) -> str:
    """Return what was printed with single spaces."""
    return " ".join(text.split())


def md5(content: bytes) -> str:
    """Return an MD5 sum as torchvision writes it."""
    return hashlib.md5(content).hexdigest()


def usps(monkeypatch: pytest.MonkeyPatch, url: str, _: Path) -> dict[str, bytes]:
    """Return the two files of a tiny USPS; torchvision believes any file in their place."""
    draws = np.random.default_rng(0)
    files, splits = {}, {}
    for split, n in (("train", 40), ("test", 20)):
        name = f"usps{'.t' * (split == 'test')}.bz2"
        rows = [f"{i % 10 + 1} " + " ".join(f"{j + 1}:{v:.2f}" for j, v in enumerate(
            draws.uniform(-1, 1, 256))) for i in range(n)]  # fmt: skip
        files[name] = bz2.compress("\n".join(rows).encode())
        splits[split] = (url + name, name, md5(files[name]))
    monkeypatch.setattr(datasets.USPS, "split_list", splits)
    return files


def kmnist(monkeypatch: pytest.MonkeyPatch, url: str, _: Path) -> dict[str, bytes]:
    """Return the four files of a tiny KMNIST."""
    draws = np.random.default_rng(0)
    files = {}
    for split, n in (("train", 40), ("t10k", 20)):
        pixels = draws.integers(0, 256, (n, 28, 28), np.uint8).tobytes()
        files[f"{split}-images-idx3-ubyte.gz"] = struct.pack(">4i", 0x803, n, 28, 28) + pixels
        labels = bytes(i % 10 for i in range(n))
        files[f"{split}-labels-idx1-ubyte.gz"] = struct.pack(">2i", 0x801, n) + labels
    files = {name: gzip.compress(content, mtime=0) for name, content in files.items()}
    monkeypatch.setattr(datasets.KMNIST, "mirrors", [url])
    sums = [(name, md5(content)) for name, content in files.items()]
    monkeypatch.setattr(datasets.KMNIST, "resources", sums)
    return files


def eurosat(monkeypatch: pytest.MonkeyPatch, url: str, _: Path) -> dict[str, bytes]:
    """Return the archive of a tiny EuroSAT; torchvision believes any folder in its place."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as packed:
        for i in range(40):
            image = io.BytesIO()
            pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(image, "JPEG")
            packed.writestr(f"2750/c{i % 10}/{i}.jpg", image.getvalue())
    content = memory.getvalue()
    name = "EuroSAT.zip"
    real = datasets.eurosat.download_and_extract_archive

    def local(_: str, download_root: str, **__: Any) -> None:
        real(url + name, download_root, md5=md5(content))

    monkeypatch.setattr(datasets.eurosat, "download_and_extract_archive", local)
    return {name: content}


def cifar10(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> dict[str, bytes]:
    """Return the archive of a tiny CIFAR-10."""
    packed = archive(fake(folder, datasets.CIFAR10, monkeypatch, 10, "labels"), monkeypatch)
    monkeypatch.setattr(datasets.CIFAR10, "url", url + datasets.CIFAR10.filename)
    return {datasets.CIFAR10.filename: packed}


SETS: dict[str, tuple[Callable[..., dict[str, bytes]], str]] = {
    "torchvision:USPS": (usps, "USPS"), "torchvision:KMNIST": (kmnist, "KMNIST"),
    "torchvision:EuroSAT": (eurosat, "EuroSAT"), "cifar10": (cifar10, "CIFAR-10"),
}  # fmt: skip


REASONS = {
    **dict.fromkeys(("half", "wrong", "another page"), "what came is cut short or another file"),
    **dict.fromkeys(("hangs", "hangs half-way"), f"no byte came for {PATIENCE:g} seconds"),
    "missing": "404", "refuses": "closed connection",
}  # fmt: skip


@pytest.fixture(params=SETS)
def served(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Server, list[str], str, Path]]:
    """Yield a server, the words that fetch a data set from it, its title, and an empty folder."""
    make, title = SETS[request.param]
    root = tmp_path / "data"
    with serving({}) as server:
        server.files = make(monkeypatch, server.url, tmp_path / "made")
        words = ["inspect", "digits", f"data.name={request.param}", f"root={root}",
                 "test_fraction=0.25", "download=true", "ratio=1"]  # fmt: skip
        if request.param == "cifar10":
            words = ["inspect", "cifar10", f"root={root}", "ratio=1"]
        yield server, words, title, root


# torchvision leaves the answer of a server that says 404 open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", HOWS)
def test_a_broken_download_is_a_sentence_and_is_not_believed(
    served: tuple[Server, list[str], str, Path], how: str
):
    """The command says what could not be had; the same line succeeds when the server does."""
    server, words, title, root = served
    server.how = how
    with pytest.raises(RefusedError) as refused:
        command(*words)
    said = str(refused.value)
    assert title in said
    assert REASONS[how] in said
    assert str(root) in said
    assert server.asked
    left = sorted(p.name for p in root.rglob("*") if p.is_file()) if root.exists() else []
    assert left == []
    server.how = "whole"
    assert "classes 10 " in shown(command(*words))
    before = server.asked
    command(*words)
    assert server.asked == before, "what was fetched is fetched once"
    assert not list(root.glob(".*"))


def test_a_split_that_breaks_off_leaves_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """If the test images cannot be had, the training images stay and are not fetched again."""
    root = tmp_path / "data"
    with serving({}) as server:
        server.files = usps(monkeypatch, server.url, tmp_path)
        whole = server.files["usps.t.bz2"]
        server.files["usps.t.bz2"] = whole[:-30]
        words = [
            "inspect",
            "digits",
            "data.name=torchvision:USPS",
            f"root={root}",
            "download=true",
            "ratio=1",
        ]
        with pytest.raises(RefusedError, match="The test images of torchvision:USPS"):
            command(*words)
        assert [p.name for p in root.iterdir()] == ["usps.bz2"]
        asked = server.asked
        server.files["usps.t.bz2"] = whole
        command(*words)
        assert server.asked <= asked + 2
    assert sorted(p.name for p in root.iterdir()) == ["usps.bz2", "usps.t.bz2"]


def test_an_archive_that_lies_there_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Files that were put there by hand are unpacked, as torchvision does, without a server."""
    files = kmnist(monkeypatch, "http://127.0.0.1:9/", tmp_path)
    raw = tmp_path / "data" / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    words = ["inspect", "digits", "data.name=torchvision:KMNIST", f"root={tmp_path / 'data'}"]
    assert "classes 10 " in shown(command(*words, "download=true", "ratio=1"))


def test_the_time_limit_is_taken_back():
    """Connections that are made later have the limit that they had."""
    before = socket.getdefaulttimeout()
    with fetching.patient():
        assert socket.getdefaulttimeout() == PATIENCE
    assert socket.getdefaulttimeout() == before


def test_what_is_there_already_stays(tmp_path: Path):
    """Fetched files are put among those of another set; a failure leaves no trace."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine").write_text("mine")
    with fetching.aside(tmp_path) as folder:
        (folder / "raw" / "deep").mkdir(parents=True)
        (folder / "raw" / "deep" / "new").write_text("new")

    def lose() -> None:
        with fetching.aside(tmp_path / "other") as folder:
            (folder / "half").touch()
            raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        lose()
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert found == ["raw", "raw/deep", "raw/deep/new", "raw/mine"]


def torchvision_weights(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, bytes]]:
    """Return a model of torchvision and the file of its weights, on our server."""
    from torchvision import models

    content = saved(models.get_model("shufflenet_v2_x0_5", weights=None))
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    entry = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    monkeypatch.setattr(entry.value, "url", url + name)
    return "torchvision:shufflenet_v2_x0_5", {name: content}


def timm_weights(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, bytes]]:
    """Return a model of timm and the file of its weights, whose hash timm does not compare."""
    timm = pytest.importorskip("timm")
    from timm.models import _registry

    name = "resnet10t.c3_in1k"
    content = saved(timm.create_model("resnet10t", pretrained=False))
    config = timm.get_pretrained_cfg(name)
    for key, value in {"url": f"{url}net.pth", "hf_hub_id": None}.items():
        object.__setattr__(config, key, value)
    monkeypatch.setitem(_registry._model_pretrained_cfgs, name, config)
    return f"timm:{name}", {"net.pth": content}


def saved(model: torch.nn.Module) -> bytes:
    """Return a network's weights as a file holds them."""
    memory = io.BytesIO()
    torch.save(model.state_dict(), memory)
    return memory.getvalue()


@pytest.mark.parametrize("make", [torchvision_weights, timm_weights])
def test_weights_that_break_off_are_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Any]
):
    """Published weights that come in part, wrong or not at all are named and leave no file."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with serving({}) as server:
        name, server.files = make(server.url, monkeypatch)
        for how in HOWS:
            server.how = how
            with pytest.raises(ModelError, match="could not be loaded") as refused:
                build_model(name, 5, pretrained=True)
            assert "downloading failed: " in refused.value.message
            assert "Traceback" not in str(refused.value)
            assert not [p for p in (tmp_path / "hub").rglob("*") if p.is_file()], how
        server.how = "whole"
        assert build_model(name, 5, pretrained=True) is not None


def test_archives_of_the_user_stay_as_they_are(tmp_path: Path) -> None:
    """What a broken fetch writes over an archive, or over what a link leads to, is thrown away."""
    outside = tmp_path / "outside.zip"
    outside.write_bytes(b"theirs")
    root = tmp_path / "root"
    root.mkdir()
    (root / "own.zip").write_bytes(b"own")
    (root / "linked.zip").symlink_to(outside)

    def broken() -> None:
        with aside(root, archives_in(root)) as folder:
            for name in ("own.zip", "linked.zip"):
                (folder / name).write_bytes(b"half")
            raise OSError("broken off")

    with pytest.raises(OSError, match="broken"):
        broken()
    with aside(root, archives_in(root)) as folder:
        (folder / "data.bin").write_bytes(b"unpacked")
    assert (root / "own.zip").read_bytes() == b"own"
    assert outside.read_bytes() == b"theirs"
    assert (root / "linked.zip").is_symlink()
    assert (root / "data.bin").read_bytes() == b"unpacked"
