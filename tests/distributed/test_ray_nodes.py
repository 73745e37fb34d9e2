"""What becomes of nodes of a Ray cluster that come or leave, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from purenoise.errors import RunError
from purenoise.lab import rayworkers
from purenoise.lab.place import place_of
from purenoise.lab.raycluster import Demand, Inspection, Node
from purenoise.lab.rayworkers import RayWorkers
from purenoise.recipe import load_recipe


def test_a_node_that_comes_is_taken_only_if_it_is_like_the_others(tmp_path: Path) -> None:
    """Another CPU would name other states: such a node is left out, an equal one is not."""
    recipe = load_recipe("digits")
    inspection = Inspection(tmp_path, [recipe.model_dump(mode="json")])
    workers = RayWorkers("a cluster", Demand(1, 0), 2, inspection)
    place = json.loads(json.dumps(place_of(recipe)))
    workers._places = [place]
    like = {"program": inspection.program, "shared": True, "fault": "", "places": [place]}
    other = {**place, "environment": {**place["environment"], "cpu": "another"}}
    for name, found in (("a", like), ("b", {**like, "places": [other]}), ("c", ValueError("x"))):
        workers.known[name] = False
        workers._admit(Node(name, name, 1), found)
    assert workers.known == {"a": True, "b": False, "c": False}
    said = [message["text"] for _, message in workers._messages]
    assert said[0] == "node a has come"
    assert "the plan and b differ: cpu " in said[1]
    assert "it cannot be asked (x)" in said[2]
    inspection.close()
    assert not list(tmp_path.iterdir())


def test_a_node_that_leaves_while_it_is_asked_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said to be gone; a node that is there and does not answer is still refused."""

    class Asked(Inspection):
        def ask(self, node: Node, demand: Demand) -> Any:
            return node.name

    inspection = Asked(tmp_path, [])
    stays, leaves = Node("1", "stays", 1), Node("2", "leaves", 1)
    like = {"program": inspection.program, "shared": True, "fault": "", "places": []}
    answers = {"stays": like, "leaves": ValueError("no such node")}
    monkeypatch.setattr(rayworkers, "refuse_too_small", lambda *_: None)
    monkeypatch.setattr(
        RayWorkers,
        "_answers",
        lambda self, asked, _: {n: answers[n.name] for n in asked.values()},
    )
    for after in ([stays], [stays, leaves]):
        seen = iter([[stays, leaves], after])
        monkeypatch.setattr(rayworkers, "nodes_for", lambda _, seen=seen: next(seen))
        workers = RayWorkers("a cluster", Demand(1, 0), 2, inspection)
        if leaves in after:
            with pytest.raises(RunError, match="leaves: it cannot be asked"):
                workers.inspect()
        else:
            workers.inspect()
            assert workers.fit == [stays]
            assert [message["text"] for _, message in workers._messages] == ["node leaves is gone"]
    inspection.close()
