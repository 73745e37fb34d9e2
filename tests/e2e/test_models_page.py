"""docs/models.md: its commands and its snippet, run in order where a user would run them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.published import environment, publish

from .support import Command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
FENCE = r"```{}\n(.*?)```"
COMMANDS = "".join(re.findall(FENCE.format("bash"), PAGE.read_text(encoding="utf-8"), re.S))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return caches with the published weights that the page begins with."""
    place = tmp_path_factory.mktemp("published")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in publish("timm:test_resnet", place).items()}},
        place / "resnet.pth.tar",
    )
    return place


@pytest.fixture
def place(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with photographs and a checkpoint, with those caches and no network."""
    from huggingface_hub import constants

    generator = np.random.default_rng(0)
    for part, sizes in (("train", (9, 4)), ("test", (2, 2))):
        for name, n in zip(("cat", "dog"), sizes, strict=True):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "resnet.pth.tar").symlink_to(cache / "resnet.pth.tar")
    for key, value in environment(cache).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return the command line."""
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize("line", COMMANDS.splitlines())
def test_commands_of_the_page_run(place: Path, command: Command, line: str) -> None:
    """Each line ends well and leaves a run that says what it took and what learnt."""
    words = shlex.split(line)
    assert words[0] == "purenoise"
    result = command(*words[1:], *(["threads=1"] if "digits" not in words else []))
    assert result.code == 0, result
    summary = json.loads(next((place / "runs").rglob("summary.json")).read_text())
    notes = " ".join(summary["notes"])
    assert ("parameters" in notes) == ("model.train" in line)
    assert ("Input of" in notes) == ("pretrained" in line or "weights" in line)
    assert ("without DAR-BN" in notes) == ("test_vit" in line and summary["method"] == "open")
    if "pretrained" in line and "image_size" not in line:
        assert summary["image_shape"] == [3, 160, 160]
        assert summary["normalize"] == [[0.5] * 3] * 2


def test_the_snippet_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The warning is what the page says."""
    (code,) = re.findall(FENCE.format("python"), PAGE.read_text(encoding="utf-8"), re.S)
    exec(compile(code, "models.md", "exec"), {})
    assert "VisionTransformer has no batch norm" in capsys.readouterr().out


def test_a_finished_run_needs_no_weights_any_more(place: Path, command: Command) -> None:
    """Evaluating, predicting and running the line again work without file and cache."""
    line = ("train", "data=photos", "model=timm:test_resnet", "model.weights=resnet.pth.tar",
            "image_size=32", "epochs=1", "threads=1", "model.train=head")  # fmt: skip
    assert command(*line).code == 0
    (place / "resnet.pth.tar").unlink()
    run = next((place / "runs").rglob("summary.json")).parent
    assert command("evaluate", run).code == 0
    assert command("predict", run, "photos/test/cat/0.png").code == 0
    assert "This run is finished" in command(*line).out
    assert "does not exist" in command.refused(*line, "seed=1")
    other = ("train", "data=photos", "model=timm:test_resnet", f"model.weights={run}", "epochs=1")
    assert command(*other, "threads=1").code == 0  # its own run's folder stands for its weights
    kept = json.loads(max((place / "runs").rglob("summary.json"), key=lambda p: p.stat().st_mtime)
                      .read_text())  # fmt: skip
    assert kept["image_shape"] == [3, 32, 32]
