"""Weights from files of any trainer: read without running anything, refused with numbers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from purenoise.errors import ModelError
from purenoise.models import build_model
from purenoise.models.weightsfile import load_file, read_weights


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.place,)


def own(n_classes: int = 5, **options: object) -> nn.Module:
    """Build a small network, its weights drawn from a seed."""
    return build_model("resnet8", n_classes, generator_seed=3, **options)  # type: ignore[arg-type]


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    """Return its weights under the keys of a wrapper."""
    return {prefix + key: value for key, value in own().state_dict().items()}


FORMS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda p: save_file(own().state_dict(), p),
    "state dict": lambda p: torch.save(own().state_dict(), p),
    "LDAM-DRW": lambda p: torch.save(
        {"epoch": 3, "arch": "resnet8", "best_acc1": torch.tensor(0.1),
         "state_dict": prefixed("module."), "optimizer": {"state": {}, "param_groups": []}}, p,
    ),
    "compiled in DataParallel": lambda p: torch.save({"model": prefixed("module._orig_mod.")}, p),
    "old zip-less form": lambda p: torch.save(
        own().state_dict(), p, _use_new_zipfile_serialization=False
    ),
    "twice nested": lambda p: torch.save({"model": {"state_dict": own().state_dict()}}, p),
    "without counters": lambda p: torch.save(
        {k: v for k, v in own().state_dict().items() if "num_batches" not in k}, p
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_network(tmp_path: Path, form: str) -> None:
    """However the weights were wrapped, the network computes what it computed."""
    FORMS[form](tmp_path / "w.pth.tar")
    model, images = build_model("resnet8", 5, generator_seed=4).eval(), torch.rand(2, 3, 8, 8)
    assert not torch.equal(model(images), own().eval()(images))
    assert load_file(model, tmp_path / "w.pth.tar") == []
    assert torch.equal(model(images), own().eval()(images))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    """A pickle that would write a file is refused, and the file is not written."""
    place = tmp_path / "written"
    for nested in (Trap(place), {"state_dict": Trap(place)}):
        torch.save(nested, tmp_path / "trap.pth")
        with pytest.raises(ModelError, match="would run code") as caught:
            read_weights(tmp_path / "trap.pth")
        assert "weights_only" not in str(caught.value)
    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap(place)))
    with pytest.raises(ModelError, match="would run code"):
        read_weights(tmp_path / "trap.pth")
    assert not place.exists()
    pickle.loads(pickle.dumps(Trap(place)))
    assert place.exists()  # the trap does work


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"PK\x03\x04", b"\x80\x02}", b"hello world"])
def test_files_of_no_weights_get_a_sentence(tmp_path: Path, content: bytes) -> None:
    """Empty, truncated and foreign files are named, and torch's advice is not passed on."""
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.pth was not read: it is damaged"):
        read_weights(tmp_path / "w.pth")


def test_a_truncated_file_gets_a_sentence(tmp_path: Path) -> None:
    """Half a safetensors file and half a zip are damaged files."""
    for name in ("w.safetensors", "w.pth"):
        FORMS["safetensors" if name.endswith("s") else "state dict"](tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match="it is damaged"):
            read_weights(tmp_path / name)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    """What is not there is named; a run's folder stands for its weights."""
    with pytest.raises(ModelError, match=r"none\.pth does not exist"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(ModelError, match=r"is a folder without weights\.safetensors"):
        read_weights(tmp_path)
    save_file(own().state_dict(), tmp_path / "weights.safetensors")
    assert read_weights(tmp_path).keys() == own().state_dict().keys()
    for empty in ({"epoch": 3}, [1, 2], torch.ones(3)):
        torch.save(empty, tmp_path / "w.pth")
        with pytest.raises(ModelError, match="holds no weights"):
            read_weights(tmp_path / "w.pth")


def test_a_head_for_other_classes_begins_anew(tmp_path: Path) -> None:
    """All but the head is taken, the head stays as it was drawn, and the user is told."""
    torch.save(own(7).state_dict(), tmp_path / "w.pth")
    model = build_model("resnet8", 5, generator_seed=4)
    drawn = model.fc.weight.clone()
    (note,) = load_file(model, tmp_path / "w.pth")
    assert "(fc)" in note
    assert "is for 7 classes: here it begins anew" in note
    assert torch.equal(model.fc.weight, drawn)
    assert torch.equal(model.conv1.weight, own(7).conv1.weight)
    assert torch.equal(model.layer3[0].bn2.running_var, own(7).layer3[0].bn2.running_var)


def test_a_head_of_another_kind_begins_anew(tmp_path: Path) -> None:
    """A cosine classifier has no bias: a linear one's weights are left out whole."""
    torch.save(own().state_dict(), tmp_path / "w.pth")
    model = own(cosine=True)
    drawn = model.fc.weight.clone()
    (note,) = load_file(model, tmp_path / "w.pth")
    assert "is of another kind" in note
    assert torch.equal(model.fc.weight, drawn)


def test_another_architecture_is_told_by_numbers(tmp_path: Path) -> None:
    """How many keys are missing, unexpected and of another shape, and the first of them."""
    torch.save(build_model("resnet20", 5).state_dict(), tmp_path / "w.pth")
    before = {k: v.clone() for k, v in own().state_dict().items()}
    model = own()
    with pytest.raises(ModelError) as caught:
        load_file(model, tmp_path / "w.pth")
    text = str(caught.value)
    n, extra = len(before), len(build_model("resnet20", 5).state_dict()) - len(before)
    assert f"of the model's {n} keys 0 are missing and 0 have another shape" in text
    assert f"and {extra} keys are unexpected: layer1.1.conv1.weight is not in the model" in text
    assert text.count("is not in the model") == 3
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    torch.save(own(in_channels=1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"1 have another shape.*conv1.weight is"):
        load_file(model, tmp_path / "w.pth")
    torch.save(build_model("torchvision:squeezenet1_1", 5).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"keys \d\d are missing and 0 have another shape"):
        load_file(model, tmp_path / "w.pth")
