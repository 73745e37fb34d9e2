"""`purenoise export` and `predict` as they are typed, and the page about them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ..e2e.support import Command, snapshot
from .support import pixels_of

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture
def photos(runs, tmp_path: Path) -> Path:
    """Some images of digits."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(pixels_of(runs["erm"])[:3]):
        Image.fromarray(pixels[0]).save(folder / f"{i}.png")
    return folder


def blocks(kind: str) -> list[str]:
    """Return the page's blocks of one language."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_commands_of_the_page_run(runs, command: Command, photos: Path, tmp_path: Path):
    """Every command of docs/export.md works, and all forms print the same table."""
    run = shutil.copytree(runs["erm"], tmp_path / "run")
    (block,) = blocks("sh")
    printed = []
    for line in block.splitlines():
        words = [str(run) if word == "RUN" else word for word in line.split()[1:]]
        done = command(*words)
        assert done.code == 0, (line, done.err)
        assert not done.err
        if words[0] == "predict":
            printed.append(done.out)
    printed.append(command("predict", run, "photos/").out)
    assert len(printed) == 4
    assert "0.png" in printed[0]
    assert len(set(printed)) == 1
    assert (run / "export" / "model.safetensors").is_file()
    assert {p.name for p in (tmp_path / "delivery").iterdir()} == {
        "model.safetensors", "model.onnx", "model.pt2", "card.md"}  # fmt: skip


def test_the_snippets_of_the_page_run(runs, command: Command, tmp_path: Path):
    """So do its lines of Python, one after the other."""
    command("export", runs["timm"], f"to={tmp_path}/")
    scope: dict[str, object] = {"RUN": runs["timm"]}
    for block in blocks("python"):
        exec(compile(block, "export.md", "exec"), scope)
    assert (tmp_path / "shop.onnx").is_file()
    assert scope["about"]["model"] == "timm:test_byobnet"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("onxn",), "There is no format 'onxn'.\nDid you mean 'onnx'?"),
        (("too=a",), "'too=a' is no setting.\nDid you mean 'to'?"),
        (("onnx", "onnx"), "onnx is given twice."),
        (("to=",), "to= has no value."),
        (("to=a/", "to=b/"), "to is given twice."),
        (("onnx", "pt2", "to=a.onnx"), "to=a.onnx names one file for 2 formats."),
        (("to=here.pt"), "weights goes to a .safetensors file, got 'here.pt'."),
        (("to=here.safetensors",), "here.safetensors exists; nothing was written."),
    ],
)
def test_mistakes_are_sentences(words, said: str, runs, command: Command, tmp_path: Path):
    """A mistake is one message with exit code 2, and nothing is written."""
    (tmp_path / "here.safetensors").write_text("mine")
    words = (words,) if isinstance(words, str) else words
    assert said in command.refused("export", runs["erm"], *words)
    assert snapshot(tmp_path) == {"here.safetensors": b"mine"}


def test_what_is_no_run_is_a_sentence(command: Command, tmp_path: Path):
    """A folder that is no run, or is not there, is told."""
    for folder in (tmp_path, tmp_path / "none"):
        assert "is not the folder of a run" in command.refused("export", folder)


def test_programs_need_trust(runs, command: Command, photos: Path):
    """Exporting one says so, and predicting with it asks for trust."""
    made = command("export", runs["erm"], "pt2", "to=m.pt2")
    assert "Reading a .pt2 file can run code" in made.out
    assert "--trust" in command.refused("predict", "m.pt2", photos)


def test_reading_onnx_needs_no_torch_export(runs, command: Command, tmp_path: Path):
    """An exported ONNX file runs in a process that never imports torch."""
    command("export", runs["erm"], "onnx", "to=m.onnx")
    code = (
        "import sys, json, numpy as np, onnxruntime\n"
        "s = onnxruntime.InferenceSession('m.onnx', providers=['CPUExecutionProvider'])\n"
        "about = json.loads(s.get_modelmeta().custom_metadata_map['purenoise'])\n"
        "x = np.zeros((5, *about['image_shape']), np.float32)\n"
        "assert s.run(None, {'images': x})[0].shape == (5, len(about['class_names']))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
