"""CIFAR and its long-tailed form, on tiny files that torchvision takes for the real ones."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from purenoise.data.cifar import load_cifar
from purenoise.data.imbalanced_cifar import ImbalancedCIFAR10, ImbalancedCIFAR100
from purenoise.errors import DataError

PER_CLASS = 20  # training images of each class in the fake sets


def batch(seed: int, n_classes: int, n: int, key: str) -> dict[str, Any]:
    """Return ``n`` random images per class in the form of a CIFAR file."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_classes), n))
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {"data": pixels, key: labels.tolist()}


def fake(root: Path, source: Any, patch: pytest.MonkeyPatch, n_classes: int, key: str) -> Path:
    """Write a tiny set, and teach torchvision its MD5 sums."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    names = {source.meta["key"]: [f"class {i}" for i in range(n_classes)]}
    contents = {source.meta["filename"]: names}
    n = PER_CLASS // len(source.train_list)
    for i, (file, _) in enumerate(source.train_list):
        contents[file] = batch(i, n_classes, n, key)
    contents[source.test_list[0][0]] = batch(99, n_classes, 2, key)
    sums = {}
    for file, content in contents.items():
        (folder / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    patch.setattr(source, "train_list", [[f, sums[f]] for f, _ in source.train_list])
    patch.setattr(source, "test_list", [[f, sums[f]] for f, _ in source.test_list])
    patch.setattr(source, "meta", {**source.meta, "md5": sums[source.meta["filename"]]})
    return root


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny CIFAR-10."""
    return fake(tmp_path / "data", datasets.CIFAR10, monkeypatch, 10, "labels")


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny CIFAR-100."""
    return fake(tmp_path / "data", datasets.CIFAR100, monkeypatch, 100, "fine_labels")


def archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Replace the folder of CIFAR-10 in ``root`` by nothing and return the archive of it."""
    folder = root / "cifar-10-batches-py"
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    md5 = hashlib.md5(memory.getvalue()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5)
    return memory.getvalue()


def test_cifar10(cifar10: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Images, labels, class names and constants are those of the files; nothing is printed."""
    data = load_cifar("cifar10", cifar10)
    first = batch(0, 10, 4, "labels")
    pixels = data.train.images.load(np.arange(40))
    assert (pixels == first["data"].reshape(-1, 3, 32, 32)).all()
    assert data.train.labels[:40].tolist() == first["labels"]
    assert data.counts().tolist() == [PER_CLASS] * 10
    assert data.test.counts(10).tolist() == [2] * 10
    assert data.class_names[3] == "class 3"
    assert data.normalize == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert capfd.readouterr() == ("", "")


def test_cifar100(cifar100: Path) -> None:
    """CIFAR-100 has its own 100 fine labels and its own constants."""
    data = load_cifar("cifar100", cifar100)
    assert data.n_classes == 100
    assert data.counts().tolist() == [PER_CLASS] * 100
    assert data.normalize == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def test_unknown_name(tmp_path: Path) -> None:
    """A name that is no CIFAR set is answered with the nearest one."""
    with pytest.raises(DataError, match="Did you mean 'cifar10'"):
        load_cifar("cifar-10", tmp_path)


def test_damaged_file_is_named_and_never_unpickled(cifar10: Path) -> None:
    """A file with another MD5 sum is an error by name, before a byte of it is unpickled."""
    harm = b"cbuiltins\nexit\n(I3\ntR."  # unpickling this would end the process
    (cifar10 / "cifar-10-batches-py" / "data_batch_3").write_bytes(harm)
    with pytest.raises(DataError, match=r"are damaged .*: data_batch_3\."):
        load_cifar("cifar10", cifar10)


def no_network(*args: Any, **kwargs: Any) -> None:
    """Fail as urllib does without a network."""
    raise urllib.error.URLError("no route to host")


def test_no_files_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sentence says where the files belong and what else to try; nothing stays behind."""
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    for name, folder in (("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")):
        with pytest.raises(DataError, match="no route to host") as caught:
            load_cifar(name, tmp_path / "new")
        stem = folder.removesuffix("-batches-py").removesuffix("-python")
        assert f"'{tmp_path / 'new' / folder}'" in caught.value.message
        assert f"{stem}-python.tar.gz" in caught.value.message
        assert "purenoise train" in caught.value.hint
        assert "data=FOLDER" in caught.value.hint
    assert not (tmp_path / "new").exists()
    assert capfd.readouterr() == ("", "")


def test_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without permission to download, no network is touched."""
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("network"))
    with pytest.raises(DataError, match="downloading is switched off"):
        load_cifar("cifar10", tmp_path, download=False)


def test_archive_beside_is_unpacked(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An official archive in the folder is enough, without a network."""
    packed = archive(cifar10, monkeypatch)
    (cifar10 / "cifar-10-python.tar.gz").write_bytes(packed)
    assert len(load_cifar("cifar10", cifar10, download=False).train) == 10 * PER_CLASS
    names = sorted(p.name for p in cifar10.iterdir())
    assert names == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_damaged_archive(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive cut short is refused by its MD5 sum and leaves no folder behind."""
    packed = archive(cifar10, monkeypatch)
    (cifar10 / "cifar-10-python.tar.gz").write_bytes(packed[:-100])
    with pytest.raises(DataError, match="its MD5 sum is wrong"):
        load_cifar("cifar10", cifar10)
    assert [p.name for p in cifar10.iterdir()] == ["cifar-10-python.tar.gz"]


class Reply(io.BytesIO):
    """What urllib gives for a download."""

    url = datasets.CIFAR10.url

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.length = len(content)


def test_download(
    cifar10: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A download is unpacked into place in silence, and a second load needs no network."""
    packed = archive(cifar10, monkeypatch)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: Reply(packed))
    assert len(load_cifar("cifar10", cifar10).train) == 10 * PER_CLASS
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert len(load_cifar("cifar10", cifar10).test) == 20
    assert [p.name for p in cifar10.iterdir()] == ["cifar-10-batches-py"]
    assert capfd.readouterr() == ("", "")


def test_interrupted_download(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that ends half-way, even by Ctrl-C, leaves nothing behind."""
    packed = archive(cifar10, monkeypatch)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: Reply(packed[:1000]))
    with pytest.raises(DataError, match="could not be had"):
        load_cifar("cifar10", cifar10)

    def interrupt(*args: Any, **kwargs: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reply, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_cifar("cifar10", cifar10)
    assert list(cifar10.iterdir()) == []


def oracle(labels: np.ndarray, ratio: float, n_classes: int) -> list[int]:
    """Return LDAM-DRW's indices, recomputed plainly from its two loops."""
    state = np.random.RandomState(0)
    n_max = len(labels) / n_classes
    kept: list[int] = []
    for c in range(n_classes):
        indices = np.where(labels == c)[0]
        state.shuffle(indices)
        kept.extend(indices[: int(n_max * (1 / ratio) ** (c / (n_classes - 1.0)))].tolist())
    return kept


@pytest.mark.parametrize("n_classes", [10, 100])
def test_long_tail_is_that_of_ldam(n_classes: int, request: pytest.FixtureRequest) -> None:
    """Images, labels and their order are those of LDAM-DRW's class; numpy's state is left alone."""
    root = request.getfixturevalue(f"cifar{n_classes}")
    plain_class = {10: datasets.CIFAR10, 100: datasets.CIFAR100}[n_classes]
    long_class = {10: ImbalancedCIFAR10, 100: ImbalancedCIFAR100}[n_classes]
    plain = plain_class(str(root))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ours = long_class(root, imb_factor=0.1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    kept = oracle(np.array(plain.targets), 10, n_classes)
    assert (ours.data == plain.data[kept]).all()
    assert ours.targets == [plain.targets[i] for i in kept]
    assert ours.get_cls_num_list() == np.bincount(ours.targets).tolist()
    assert ours.get_cls_num_list()[0] == PER_CLASS
    assert ours.get_cls_num_list()[-1] == PER_CLASS // 10
    assert ours.cls_num == n_classes
    assert isinstance(ours, plain_class)


def test_long_tail_is_an_ordinary_data_set(cifar10: Path) -> None:
    """Transforms apply, items are (image, label), and the test set stays balanced."""
    data = ImbalancedCIFAR10(
        cifar10,
        imb_factor=0.1,
        transform=lambda image: image.size,
        target_transform=lambda label: -label,
    )
    assert data[len(data) - 1] == ((32, 32), -9)
    test = ImbalancedCIFAR10(cifar10, train=False)
    assert test.get_cls_num_list() == [2] * 10
    assert test.subset_sha256 is None


def test_step_imbalance(cifar10: Path) -> None:
    """Step imbalance halves the classes into large and small ones."""
    data = ImbalancedCIFAR10(cifar10, imb_type="step", imb_factor=0.25)
    assert data.get_cls_num_list() == [20] * 5 + [5] * 5


@pytest.mark.parametrize("factor", [0, -0.1, 1.5, float("nan")])
def test_wrong_factor(cifar10: Path, factor: float) -> None:
    """An imbalance factor outside (0, 1] is refused before any file is read."""
    with pytest.raises(DataError, match="imb_factor is"):
        ImbalancedCIFAR10(cifar10 / "none", imb_factor=factor)


def test_wrong_type(cifar10: Path) -> None:
    """An unknown kind of imbalance is an error, not a balanced set."""
    with pytest.raises(DataError):
        ImbalancedCIFAR10(cifar10, imb_type="expo")
