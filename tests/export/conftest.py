"""Finished runs of every kind whose last layer or batch norm is not ordinary, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import purenoise as pn

from ..e2e.conftest import command  # noqa: F401 - a fixture
from ..e2e.support import make_images

COLOURS = {"red_ish": 14, "green_ish": 9, "blue_ish": 5}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders of finished runs: small networks, an epoch or two."""
    out = tmp_path_factory.mktemp("runs")
    digits = {"threads": 1, "out": str(out), "model": "resnet8", "epochs": 2}
    photos = {"threads": 1, "out": str(out), "epochs": 1, "batch_size": 8, "lr": 0.001,
              "data": str(make_images(out / "photos", COLOURS, size=32)),
              "data.image_size": 32}  # fmt: skip
    made = {
        "erm": pn.train("digits", **digits, method="erm", val_fraction=0.2),
        "auxiliary": pn.train("digits", **digits, method="open", batch_norm="auxiliary"),
        "lws": pn.train("digits", **digits, method="lws"),
        "tau-norm": pn.train("digits", **digits, method="tau-norm"),
        "ldam": pn.train("digits", **digits, method="ldam"),
        "double": pn.train("digits", **digits, method="open", precision="float64"),
        "torchvision": pn.train(**photos, model="torchvision:resnet18", method="open"),
        "timm": pn.train(**photos, model="timm:test_byobnet", method="erm"),
    }
    return {name: run.folder for name, run in made.items()}
