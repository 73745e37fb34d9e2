"""Exported files hold the network that was measured: held against plain libraries and logits."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import purenoise as pn
from purenoise.errors import ModelError, PureNoiseError, RecipeError, RunError
from purenoise.export import checking, onnxfile
from purenoise.export.manifest import Manifest
from purenoise.export.plainweights import how_to_load
from purenoise.export.reading import open_classifier
from purenoise.export.running import export_all
from purenoise.export.source import load_finished
from purenoise.models import build_model
from purenoise.recipe import load_recipe

from ..e2e.support import make_images
from .support import measured, pixels_of, plainly, summary_of

LIMIT = 1e-4
PLAIN = {
    "erm": lambda: build_model("resnet8", 10, in_channels=1),
    "auxiliary": lambda: build_model("resnet8", 10, in_channels=1),
    "lws": lambda: build_model("resnet8", 10, in_channels=1),
    "tau-norm": lambda: build_model("resnet8", 10, in_channels=1),
    "double": lambda: build_model("resnet8", 10, in_channels=1),
    "torchvision": lambda: torchvision.models.resnet18(num_classes=3),
    "timm": lambda: timm.create_model("test_byobnet", num_classes=3),
}


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether logits are equal to 1e-4 and name the same classes."""
    return bool(np.abs(a - b).max() < LIMIT) and bool((a.argmax(1) == b.argmax(1)).all())


@pytest.mark.parametrize("name", PLAIN)
def test_weights_load_into_the_unmodified_model(name: str, runs, tmp_path: Path):
    """A model that purenoise has not touched takes them strictly and says what was measured."""
    made = pn.export_run(runs[name], to=tmp_path / "w.safetensors")
    model = PLAIN[name]()
    model.load_state_dict(load_file(made.path), strict=True)
    assert all("purenoise" not in type(m).__module__ or name not in ("torchvision", "timm")
               for m in model.modules())  # fmt: skip
    assert close(plainly(model, runs[name], pixels_of(runs[name])), measured(runs[name]))


@pytest.mark.parametrize("name", ["auxiliary", "ldam", "double", "torchvision"])
def test_onnx_says_what_was_measured(name: str, runs, tmp_path: Path):
    """Images in [0, 1] go in, the run's logits come out, for any number of images."""
    path = pn.export_run(runs[name], "onnx", tmp_path / "m.onnx").path
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = (pixels_of(runs[name]) / 255.0).astype(np.float32)
    (logits,) = session.run(["logits"], {"images": x})
    assert close(logits, measured(runs[name]))
    (one,) = session.run(["logits"], {"images": x[:1]})
    assert np.abs(one - logits[:1]).max() < LIMIT


@pytest.mark.parametrize("name", ["ldam", "timm"])
def test_program_says_what_was_measured(name: str, runs, tmp_path: Path):
    """So does a program of torch.export."""
    path = pn.export_run(runs[name], "pt2", tmp_path / "m.pt2").path
    with path.open("rb") as file:
        program = torch.export.load(file).module()
    x = torch.from_numpy((pixels_of(runs[name]) / 255.0).astype(np.float32))
    assert close(program(x).numpy(), measured(runs[name]))
    assert program(x[:1]).shape == (1, x.new_tensor(measured(runs[name])).shape[1])


def test_cosine_classifier_is_said_and_loads_as_the_lines_say(runs, tmp_path: Path, monkeypatch):
    """What no plain model can hold is said, and the card's lines load it."""
    made = pn.export_run(runs["ldam"], to=tmp_path / "model.safetensors")
    assert any("cosine classifier" in note for note in made.notes)
    card = pn.export_run(runs["ldam"], "card", tmp_path / "card.md").path.read_text()
    lines = card.split("```\nfrom safetensors")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    scope: dict[str, nn.Module] = {}
    exec(f"from safetensors{lines}", scope)
    assert close(plainly(scope["model"], runs["ldam"], pixels_of(runs["ldam"])),
                 measured(runs["ldam"]))  # fmt: skip


@pytest.mark.parametrize("name", ["erm", "torchvision", "timm"])
def test_lines_of_the_card_load_the_weights(name: str, runs, tmp_path: Path, monkeypatch):
    """The card's lines load the weights beside it."""
    export_all(runs[name], ["weights", "card"], tmp_path)
    code = (tmp_path / "card.md").read_text().split("```\nfrom safetensors")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    scope: dict[str, nn.Module] = {}
    exec(f"from safetensors{code}", scope)
    logits = plainly(scope["model"], runs[name], pixels_of(runs[name]))
    assert close(logits, measured(runs[name]))


@pytest.mark.parametrize(
    "name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.long)]
)
def test_lines_for_networks_with_side_heads_load_them(name: str, tmp_path: Path, monkeypatch):
    """What a card says of GoogLeNet and Inception loads our weights, strictly."""
    ours = build_model(f"torchvision:{name}", 3).eval()
    save_file(ours.state_dict(), tmp_path / "model.safetensors")
    manifest = Manifest.model_construct(
        model=f"torchvision:{name}", class_names=("a", "b", "c"), image_shape=(3, 299, 299),
        head="linear",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    scope: dict[str, nn.Module] = {}
    exec("\n".join(how_to_load(manifest)), scope)
    theirs = scope["model"].state_dict()
    assert theirs.keys() == ours.state_dict().keys()
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.items())


def test_mnasnet_is_saved_loaded_and_exported(tmp_path: Path, monkeypatch):
    """The one model that asks for versions in a state dict: runs are read again, lines work."""
    run = pn.train(
        data=str(make_images(tmp_path / "photos", {"a": 6, "b": 4}, size=32)), epochs=1, lr=0.001,
        threads=1, model="torchvision:mnasnet0_5", method="erm", out=str(tmp_path / "runs"),
        **{"data.image_size": 32},
    ).folder  # fmt: skip
    export_all(run, ["weights", "card"], tmp_path)
    code = (tmp_path / "card.md").read_text().split("```\nfrom safetensors")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    scope: dict[str, nn.Module] = {}
    exec(f"from safetensors{code}", scope)
    assert close(plainly(scope["model"], run, pixels_of(run)), measured(run))
    assert open_classifier("model.safetensors").class_names == ("a", "b")


@pytest.mark.parametrize("method", ["logit-adjustment", "tau-norm", "temperature", "offsets"])
def test_adjusted_runs_are_exported_with_their_adjustment(method: str, runs, tmp_path: Path):
    """The adjustment lies in the last layer: logits are those that `adjust` measured."""
    run = shutil.copytree(runs["erm"], tmp_path / "run")
    adjusted = pn.adjust_run(run, method).folder
    made = export_all(adjusted, ["weights", "onnx"] if method == "offsets" else ["weights"])
    model = PLAIN["erm"]()
    model.load_state_dict(load_file(made[0].path), strict=True)
    pixels = pixels_of(run)
    assert close(plainly(model, run, pixels), measured(adjusted))
    for one in made[1:]:
        session = onnxruntime.InferenceSession(one.path, providers=["CPUExecutionProvider"])
        x = (pixels / 255.0).astype(np.float32)
        assert close(session.run(None, {"images": x})[0], measured(adjusted))
    if method != "temperature":
        assert not close(measured(adjusted), measured(run))


def test_files_say_what_they_are(runs, tmp_path: Path):
    """Each file names classes, size, normalisation and origin, and ONNX has one fixed opset."""
    export_all(runs["timm"], ["weights", "onnx"], tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        said = json.loads(file.metadata()["purenoise"])
    proto = onnx.load(tmp_path / "model.onnx")
    assert json.loads({p.key: p.value for p in proto.metadata_props}["purenoise"]) == said
    summary = summary_of(runs["timm"])
    assert said["class_names"] == summary["class_names"]
    assert said["image_shape"] == summary["image_shape"] == [3, 32, 32]
    assert [said["mean"], said["std"]] == summary["normalize"]
    assert said["recipe_digest"] == summary["digest"]
    assert said["model"] == "timm:test_byobnet"
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", onnxfile.OPSET)]
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, 32, 32]


def test_graphs_tell_nothing_of_the_machine(runs, tmp_path: Path):
    """No path of the machine that exported them is in them."""
    for one in export_all(runs["erm"], ["onnx", "pt2", "weights"], tmp_path):
        content = one.path.read_bytes()
        assert b"site-packages" not in content
        assert b"/src/purenoise" not in content


def test_a_network_that_answers_otherwise_is_not_written(runs, tmp_path: Path, monkeypatch):
    """If what was exported differs, there is a sentence and no file."""
    real = onnxfile.as_input
    monkeypatch.setattr(onnxfile, "as_input", lambda images: real(images) * np.float32(0.9))
    with pytest.raises(RunError, match="does not say what the run's network says"):
        pn.export_run(runs["erm"], "onnx", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_comparison_can_fail():
    """Another class, another shape and a value that is not finite are seen, a tie is not."""
    a = np.array([[1.0, 0.99995], [0.0, 2.0]], np.float32)
    assert checking.difference(a, a, "it") == 0
    with pytest.raises(RunError, match="1 of 2 images another class"):
        checking.difference(a, a[:, [1, 0]] * [[1, 1], [0, 0]] + [[0, 0], [0, 2]], "it")
    with pytest.raises(RunError, match="not finite"):
        checking.difference(a, a * np.nan, "it")
    with pytest.raises(RunError, match="shape"):
        checking.difference(a, a[:1], "it")
    tied = np.array([[1.0, 1.0 - 1e-7]])
    assert checking.difference(tied, tied[:, ::-1], "it") < 1e-6


def test_without_the_data_noise_is_compared(runs, tmp_path: Path):
    """A run whose images are gone is checked on noise images, and its file says so."""
    out = shutil.copytree(runs["timm"], tmp_path / "run")
    recipe = out / "recipe.yaml"
    text = recipe.read_text().replace("photos", "gone")
    recipe.write_text(text)
    digest = load_recipe(str(recipe)).digest()  # a recipe that was changed otherwise is refused
    for path in (recipe, out / "summary.json"):
        old = re.search('digest[": ]+([0-9a-f]{64})', path.read_text())
        path.write_text(path.read_text().replace(old[1], digest))
    summary = json.loads((out / "summary.json").read_text())
    del summary["sha256"]
    (out / "summary.json").write_text(json.dumps(summary))
    weights = load_file(out / "weights.safetensors")
    save_file(weights, out / "weights.safetensors")  # whose header says no run
    made = pn.export_run(out, to=tmp_path / "w.safetensors")
    assert "noise images" in made.notes[0]
    with safe_open(made.path, framework="np") as file:
        assert "noise images" in json.loads(file.metadata()["purenoise"])["checked"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "onxn"}, "Did you mean 'onnx'?"),
        ({"format": "onnx", "to": "m.pt2"}, "onnx goes to a .onnx file"),
        ({"format": "card", "to": "m.txt"}, "card goes to a .md file"),
    ],
)
def test_wrong_words_are_refused(options, said: str, runs, tmp_path: Path, monkeypatch):
    """An unknown format or another suffix is a sentence, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as error:
        pn.export_run(runs["erm"], **options)
    assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(runs, tmp_path: Path):
    """Files that are there stay, all named at once; force replaces; the run's own never go."""
    (tmp_path / "model.safetensors").write_text("mine")
    (tmp_path / "card.md").write_text("mine")
    with pytest.raises(RunError, match=r"model.safetensors, .*card.md exist"):
        export_all(runs["erm"], ["weights", "card"], tmp_path)
    assert (tmp_path / "card.md").read_text() == "mine"
    export_all(runs["erm"], ["weights", "card"], tmp_path, force=True)
    assert (tmp_path / "card.md").read_text() != "mine"
    with pytest.raises(RunError, match="files of the run itself"):
        pn.export_run(runs["erm"], to=runs["erm"] / "weights.safetensors", force=True)


def test_unfinished_and_strange_runs_are_refused(runs, tmp_path: Path):
    """An unfinished run, and an adjusted one that lies in another run, are told."""
    begun = shutil.copytree(runs["erm"], tmp_path / "begun")
    (begun / "summary.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        pn.export_run(begun)
    first = shutil.copytree(runs["erm"], tmp_path / "first")
    adjusted = pn.adjust_run(first).folder
    second = shutil.copytree(runs["lws"], tmp_path / "second")
    moved = shutil.copytree(adjusted, second / "adjusted" / adjusted.name)
    with pytest.raises(RunError, match="made of another run"):
        pn.export_run(moved)
    (moved / "summary.json").unlink()
    with pytest.raises(RunError, match="holds no adjusted run"):
        pn.export_run(moved)


def test_missing_extra_is_a_sentence(runs, tmp_path: Path, monkeypatch):
    """Without onnxscript the line that installs it is given, before anything is loaded."""
    real = onnxfile.importlib.import_module

    def without(name: str):
        if name == "onnxscript":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(onnxfile.importlib, "import_module", without)
    with pytest.raises(ModelError) as error:
        pn.export_run(runs["erm"], "onnx", tmp_path / "m.onnx")
    assert 'pip install "purenoise[onnx]"' in error.value.hint
    assert "onnxscript, which is not installed" in error.value.message


def test_models_without_a_graph_are_a_sentence():
    """A model that looks at its input's values cannot be traced: weights are still offered."""

    class Looks(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2] * (2 if float(x.sum()) > 0 else 1)

    with pytest.raises(PureNoiseError, match="cannot be traced") as error:
        onnxfile.check_onnx(Looks(), (1, 2, 2))
    assert "weights can be exported" in error.value.hint


def test_check_onnx_sees_a_difference(monkeypatch):
    """The reusable check compares with torch, which random networks of ours pass."""

    class Own(nn.Module):
        def forward(self, x):
            return F.log_softmax(x.flatten(1), 1)

    assert onnxfile.check_onnx(Own(), (1, 2, 2)) < LIMIT
    monkeypatch.setattr(onnxfile, "answers", lambda m, x: np.zeros((len(x), 4), np.float32))
    with pytest.raises(RunError):
        onnxfile.check_onnx(Own(), (1, 2, 2))


def test_loaded_runs_are_left_as_they_are(runs, tmp_path: Path):
    """Exporting changes no file of a run."""
    before = {p: p.read_bytes() for p in runs["double"].rglob("*") if p.is_file()}
    pn.export_run(runs["double"], to=tmp_path / "w.safetensors")
    assert {p: p.read_bytes() for p in runs["double"].rglob("*") if p.is_file()} == before
    assert next(load_finished(runs["double"]).model.parameters()).dtype == torch.float64
