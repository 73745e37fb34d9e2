"""`predict` from every form says the same; files of strangers run no code and get a sentence."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file

from purenoise.errors import PureNoiseError, RunError
from purenoise.export import program
from purenoise.export.manifest import Manifest, read_manifest
from purenoise.export.reading import open_classifier
from purenoise.export.running import export_all
from purenoise.export.source import describe, load_finished
from purenoise.predict import predict

from .support import pixels_of


@pytest.fixture(scope="module")
def files(runs, tmp_path_factory) -> dict[str, Path]:
    """One run in every form."""
    folder = tmp_path_factory.mktemp("files")
    made = export_all(runs["erm"], ["weights", "onnx", "pt2"], folder)
    return {one.format: one.path for one in made}


@pytest.fixture(scope="module")
def manifest(runs) -> Manifest:
    """What those files say of themselves."""
    return describe(load_finished(runs["erm"]), "nothing")


def refused(path: Path, **options: bool) -> str:
    """Return what is said when a file is opened."""
    with pytest.raises(PureNoiseError) as error:
        open_classifier(path, **options)
    assert error.value.hint
    return error.value.message


@pytest.mark.parametrize("form", ["weights", "onnx", "pt2"])
def test_every_form_predicts_what_the_run_predicts(form: str, files, runs):
    """Same classes in the same order, same probabilities, for more images than a batch has."""
    run, other = open_classifier(runs["erm"]), open_classifier(files[form], trust=True)
    pixels = pixels_of(runs["erm"])
    assert (other.class_names, other.image_shape) == (run.class_names, run.image_shape)
    assert np.abs(run.logits(pixels) - other.logits(pixels)).max() < 1e-4


def test_predict_reads_images_for_every_form(files, runs, tmp_path: Path):
    """Files, folders and broken images go the same way as with a run."""
    from PIL import Image

    pixels = pixels_of(runs["erm"])
    for i in range(3):
        Image.fromarray(pixels[i, 0]).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    found = {name: predict(path, [tmp_path], trust=True)
             for name, path in (("run", runs["erm"]), *files.items())}  # fmt: skip
    for other in found.values():
        for a, b in zip(found["run"], other, strict=True):
            assert (a.image, a.classes, bool(a.error)) == (b.image, b.classes, bool(b.error))
            assert np.allclose(a.probabilities, b.probabilities, atol=1e-5)
    assert sum(bool(p.error) for p in found["onnx"]) == 1


def test_programs_are_read_on_trust_only(files):
    """Torch's reader can run code, so a program is refused unless its user trusts it."""
    assert "can run code" in refused(files["pt2"])


def test_reading_a_program_can_run_code(files, tmp_path: Path):
    """The reason is real: a constant marked as pickled runs what it names, with torch's reader."""
    mark = tmp_path / "was-run"

    class Bad:
        def __reduce__(self):
            return Path.touch, (mark,)

    bad, config = tmp_path / "bad.pt2", "model_weights_config.json"
    with zipfile.ZipFile(files["pt2"]) as old, zipfile.ZipFile(bad, "w") as new:
        (place,) = (name for name in old.namelist() if name.endswith(config))
        said = json.loads(old.read(place))
        entry = next(iter(said["config"].values()))
        entry["use_pickle"] = True
        weight = place.replace(config, entry["path_name"])
        changed = {place: json.dumps(said).encode(), weight: _pickled(Bad(), tmp_path)}
        for name in old.namelist():
            new.writestr(name, changed.get(name, old.read(name)))
        assert changed.keys() <= set(old.namelist())
    refused(bad)
    assert not mark.exists()
    with pytest.raises(RunError, match="truncated or no torch"):
        program.read_program(bad, trust=True)
    assert mark.exists()


def _pickled(thing: object, folder: Path) -> bytes:
    """Return a thing in torch's own format."""
    path = folder / "thing.pt"
    torch.save(thing, path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["safetensors", "onnx", "pt2"])
@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04.", b"PK\x03\x04 nothing", pickle.dumps({1: 2})]
)
def test_nonsense_is_a_sentence(suffix: str, content: bytes, tmp_path: Path):
    """An empty file, a pickle and a torn archive are told, whatever their names say."""
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(content)
    assert str(path) in refused(path, trust=True)


@pytest.mark.parametrize("form", ["weights", "onnx", "pt2"])
def test_truncated_files_are_a_sentence(form: str, files, tmp_path: Path):
    """So is the first half of a good one."""
    path = tmp_path / files[form].name
    path.write_bytes(files[form].read_bytes()[: files[form].stat().st_size // 2])
    refused(path, trust=True)


def test_onnx_with_numbers_elsewhere_is_not_read(files, tmp_path: Path):
    """A file that names another to read its numbers from is refused, also in an inner graph."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [4], np.zeros(4, np.float32))
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    proto = onnx.load(files["onnx"])
    path = tmp_path / "m.onnx"
    inner = helper.make_graph([], "inner", [], [], initializer=[tensor])
    proto.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner))
    onnx.save(proto, path)
    assert "1 tensors in other files" in refused(path)


def test_files_that_say_nothing_are_a_sentence(files, runs, tmp_path: Path):
    """A run's own weights, and an ONNX file of someone else, do not name their classes."""
    assert "does not say what its classes" in refused(runs["erm"] / "weights.safetensors")
    proto = onnx.load(files["onnx"])
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "m.onnx")
    assert "does not say what its classes" in refused(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_shape": [1, 8, 10**9]}, "out of bounds"),
        ({"image_shape": [1, 8]}, "image_shape"),
        ({"std": [0.0]}, "std above 0"),
        ({"mean": [0.0, 1.0]}, "one number per channel"),
        ({"mean": [float("nan")]}, "mean"),
        ({"class_names": []}, "class_names"),
        ({"version": 2}, "version"),
        ({"weights_digest": "../../x"}, "weights_digest"),
    ],
)
def test_manifests_are_checked(changes, said: str, manifest: Manifest):
    """What a file says of itself is used only if it can be."""
    text = json.dumps(manifest.model_dump(mode="json") | changes)
    with pytest.raises(RunError, match=said):
        read_manifest(text, "m.onnx")
    assert read_manifest(manifest.to_json(), "m.onnx") == manifest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "resnet20"}, "weights of another model"),
        ({"model": "os.system"}, "names a model that cannot be built"),
        ({"model": "timm:hf-hub:someone/something"}, "names a model that cannot be built"),
        ({"class_names": ["a", "b"]}, "weights of another model"),
    ],
)
def test_weights_that_name_another_model_are_a_sentence(
    changes, said: str, files, manifest: Manifest, tmp_path: Path
):
    """Weights go into the model that they name, and only if they fit."""
    text = json.dumps(manifest.model_dump(mode="json") | changes)
    path = tmp_path / "m.safetensors"
    save_file(load_file(files["weights"]), path, {"purenoise": text})
    assert said in refused(path)


def test_graphs_that_belie_their_names_are_a_sentence(files, manifest: Manifest, tmp_path: Path):
    """A graph that gives other numbers than it names classes, or takes another size, is told."""
    for changes, said in (
        ({"class_names": ["a", "b"]}, "names 2 classes"),
        ({"image_shape": [1, 9, 9]}, "cannot take images of"),
    ):
        proto = onnx.load(files["onnx"])
        del proto.metadata_props[:]
        text = json.dumps(manifest.model_dump(mode="json") | changes)
        proto.metadata_props.add(key="purenoise", value=text)
        onnx.save(proto, tmp_path / "m.onnx")
        found = open_classifier(tmp_path / "m.onnx")
        with pytest.raises(RunError, match=said):
            found.logits(np.zeros((2, *found.image_shape), np.uint8))


def test_missing_files_are_a_sentence(tmp_path: Path, files):
    """A file that is not there, and one of another kind, are told."""
    assert "There is no file" in refused(tmp_path / "m.onnx")
    other = Path(shutil.copy(files["onnx"], tmp_path / "m.txt"))
    assert "neither the folder of a run nor" in refused(other)
