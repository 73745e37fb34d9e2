"""Hostile networks: pickles that would run code, false headers, tensors of absurd sizes."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from purenoise.checkpoint import load_weights
from purenoise.export.reading import open_classifier
from purenoise.models import build_model
from purenoise.models.weightsfile import load_file

from .kind import Expected, Kind
from .pixels import Bomb
from .texts import fifo, sparse, written
from .warm import exported

HUGE = 1 << 60


def model() -> torch.nn.Module:
    """Return a small network."""
    return build_model("small_cnn", 3, in_channels=1, generator_seed=0)


def state() -> dict[str, torch.Tensor]:
    """Return its weights."""
    return dict(model().state_dict())


def torch_file(content: Any, **options: Any) -> bytes:
    """Return what ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def tensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with any header and any length before it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(shape: list[int], ends: list[int], kind: str = "F32") -> dict[str, Any]:
    """Return what a safetensors header says of one tensor."""
    return {"dtype": kind, "shape": shape, "data_offsets": ends}


def itself() -> dict[str, Any]:
    """Return a checkpoint that holds itself."""
    found: dict[str, Any] = {}
    found["state_dict"] = found
    return found


def nested(depth: int = 5000) -> bytes:
    """Return a pickle of dictionaries inside each other."""
    return b"\x80\x02" + b"}X\x05\0\0\0model" * depth + b"}" + b"s" * depth + b"."


def deflated() -> bytes:
    """Return a checkpoint whose numbers are 600 MB of zeros, compressed."""
    whole = torch_file({"a": torch.zeros(150_000_000)})
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return buffer.getvalue()


def inside_torch(content: bytes) -> bytes:
    """Return a checkpoint in torch's archive with any pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data/0", bytes(64))
    return buffer.getvalue()


def calls(module: str, name: str, *args: Any) -> bytes:
    """Return a pickle that calls a function."""
    body = b"\x80\x02c" + f"{module}\n{name}\n".encode()
    return body + pickle.dumps(tuple(args), 2)[2:-1] + b"R."


def stretched() -> dict[str, Any]:
    """Return weights of a shape that is far larger than what is stored."""
    found = state()
    name = next(iter(found))
    return {**found, name: torch.zeros(1).expand(10**6, 10**6)}


class _Reduced:
    def __init__(self, function: Any, *args: Any) -> None:
        self.parts = (function, args)

    def __reduce__(self) -> Any:
        return self.parts


WEIGHTS: dict[str, tuple[str, Callable[[], bytes], Expected]] = {
    "good": ("w.pth", lambda: torch_file(state()), "harmless"),
    "a pickle that runs a program": ("w.pth.tar", lambda: torch_file({"a": Bomb()}), "refused"),
    "a bare pickle": ("w.pth", lambda: pickle.dumps(Bomb()), "refused"),
    "an old pickle": ("w.pth", lambda: torch_file(
        {"a": Bomb()}, _use_new_zipfile_serialization=False), "refused"),
    "a pickle called safetensors": ("w.safetensors", lambda: torch_file({"a": Bomb()}), "refused"),
    "eval": ("w.pth", lambda: inside_torch(calls("builtins", "eval", "open('ran', 'w')")),
             "refused"),
    "exec in an allowed module": ("w.pth", lambda: inside_torch(
        calls("torch.serialization", "os.system", "touch ran")), "refused"),
    "torch.load in torch.load": ("w.pth", lambda: inside_torch(
        calls("torch", "load", "x.pth")), "refused"),
    "an array of bytes of a terabyte": ("w.pth", lambda: inside_torch(
        calls("builtins", "bytearray", 10**12)), "refused"),
    "a module": ("w.pth", lambda: torch_file(model()), "refused"),
    "a checkpoint that holds itself": ("w.pth", lambda: torch_file(itself()), "refused"),
    "5,000 dictionaries": ("w.pth", lambda: inside_torch(nested()), "refused"),
    "compressed zeros": ("w.pth", deflated, "refused"),
    "a tensor far larger than its numbers": ("w.pth", lambda: torch_file(stretched()), "refused"),
    "numbers that are no tensors": ("w.pth", lambda: torch_file({"a": 1}), "refused"),
    "a list": ("w.pth", lambda: torch_file([torch.ones(2)]), "refused"),
    "keys that are no text": ("w.pth", lambda: torch_file({1: torch.ones(2)}), "refused"),
    "keys of escape sequences": ("w.pth", lambda: torch_file({"\x1b[31m" * 99: torch.ones(2)}),
                                 "refused"),
    "ten thousand keys": ("w.pth", lambda: torch_file(
        {f"k{i}": torch.ones(1) for i in range(10_000)}), "refused"),
    "complex numbers": ("w.pth", lambda: torch_file(
        {k: v.to(torch.complex64) for k, v in state().items()}), "either"),
    "sparse tensors": ("w.pth", lambda: torch_file(
        {k: v.to_sparse() if v.dim() else v for k, v in state().items()}), "either"),
    "tensors without numbers": ("w.pth", lambda: torch_file(
        {k: v.to("meta") for k, v in state().items()}), "either"),
    "an ordered dictionary with an attribute": ("w.pth", lambda: torch_file(
        {"model": _Reduced(OrderedDict, [("a", 1)])}), "refused"),
    "no bytes": ("w.pth", lambda: b"", "refused"),
    "zeros": ("w.pth", lambda: bytes(10_000), "refused"),
    "a header of 2^60": ("w.safetensors", lambda: tensors({}, length=HUGE), "refused"),
    "a header of 2^64 - 1": ("w.safetensors", lambda: tensors({}, length=2**64 - 1), "refused"),
    "a header of nothing": ("w.safetensors", lambda: tensors(b"", length=0), "refused"),
    "offsets beyond the file": ("w.safetensors", lambda: tensors(
        {"a": entry([4], [0, 16])}, bytes(8)), "refused"),
    "offsets of 2^60": ("w.safetensors", lambda: tensors(
        {"a": entry([HUGE], [0, 4 * HUGE])}, bytes(8)), "refused"),
    "offsets that overlap": ("w.safetensors", lambda: tensors(
        {"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, bytes(12)), "refused"),
    "offsets that go back": ("w.safetensors", lambda: tensors(
        {"a": entry([2], [8, 0])}, bytes(8)), "refused"),
    "a hole between tensors": ("w.safetensors", lambda: tensors(
        {"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, bytes(12)), "refused"),
    "sizes whose product is zero again": ("w.safetensors", lambda: tensors(
        {"a": entry([2**32, 2**32], [0, 0])}), "refused"),
    "a type that there is not": ("w.safetensors", lambda: tensors(
        {"a": entry([2], [0, 8], "F99")}, bytes(8)), "refused"),
    "NaN in the header": ("w.safetensors", lambda: tensors(
        b'{"__metadata__": {"a": NaN}}'), "refused"),
    "metadata that are numbers": ("w.safetensors", lambda: tensors(
        {"__metadata__": {"a": 1}, "a": entry([1], [0, 4])}, bytes(4)), "refused"),
    "ten thousand brackets": ("w.safetensors", lambda: tensors(b"{" + b'"a":{' * 10_000),
                              "refused"),
    "one key twice": ("w.safetensors", lambda: tensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "refused"),
    "a header that is no UTF-8": ("w.safetensors", lambda: tensors(b"{\xff\xff}"), "refused"),
}  # fmt: skip


def manifest(**changes: Any) -> bytes:
    """Return exported weights with a changed manifest."""
    whole = exported("model.safetensors")
    n = struct.unpack("<Q", whole[:8])[0]
    head = json.loads(whole[8 : 8 + n])
    own = json.loads(head["__metadata__"]["purenoise"])
    head["__metadata__"]["purenoise"] = json.dumps({**own, **changes})
    return tensors(head, whole[8 + n :])


def onnx_file(change: Callable[[Any], None]) -> bytes:
    """Return an exported ONNX file, changed."""
    import onnx

    proto = onnx.load_model_from_string(exported("model.onnx"))
    change(proto)
    return bytes(proto.SerializeToString())


def _outside(proto: Any) -> None:
    import onnx

    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key, value in (("location", "../outside/victim"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)


def _says(key: str, value: Any) -> Callable[[Any], None]:
    def change(proto: Any) -> None:
        (entry,) = [e for e in proto.metadata_props if e.key == "purenoise"]
        entry.value = json.dumps({**json.loads(entry.value), key: value})

    return change


def _huge(proto: Any) -> None:
    proto.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]


def _operator(proto: Any) -> None:
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "System", "ai.evil"


EXPORTS: dict[str, tuple[str, Callable[[], bytes], Expected]] = {
    "good weights": ("m.safetensors", lambda: exported("model.safetensors"), "harmless"),
    "a billion classes": ("m.safetensors", lambda: manifest(class_names="x"), "refused"),
    "images of 10^9": ("m.safetensors", lambda: manifest(image_shape=[1, 10**9, 10**9]),
                       "refused"),
    "64 channels of 8,192": ("m.safetensors", lambda: manifest(image_shape=[64, 8192, 8192]),
                             "refused"),
    "a model with a path": ("m.safetensors", lambda: manifest(model="../../x"), "refused"),
    "a model of timm's hub": ("m.safetensors", lambda: manifest(model="timm:hf-hub:evil/model"),
                              "refused"),
    "a model of timm's folder": ("m.safetensors", lambda: manifest(
        model="timm:local-dir:/tmp"), "refused"),
    "normalised by zero": ("m.safetensors", lambda: manifest(std=[0.0]), "refused"),
    "a manifest of brackets": ("m.safetensors", lambda: tensors({"__metadata__": {
        "purenoise": '"weights_digest"' + "[" * 100_000}}), "refused"),
    "a scale that is infinite": ("m.safetensors", lambda: manifest(scale=1e999), "refused"),
    "good ONNX": ("m.onnx", lambda: exported("model.onnx"), "harmless"),
    "ONNX of noise": ("m.onnx", lambda: np.random.default_rng(0).bytes(5000), "refused"),
    "ONNX with numbers in another file": ("m.onnx", lambda: onnx_file(_outside), "refused"),
    "ONNX with a tensor of 2^60": ("m.onnx", lambda: onnx_file(_huge), "refused"),
    "ONNX with an operator of its own": ("m.onnx", lambda: onnx_file(_operator), "refused"),
    "ONNX that names other classes": ("m.onnx", lambda: onnx_file(_says("class_names", ["a"])),
                                      "refused"),
    "ONNX of other images": ("m.onnx", lambda: onnx_file(_says("image_shape", [1, 7, 9])),
                             "refused"),
    "ONNX without inputs": ("m.onnx", lambda: onnx_file(lambda p: p.graph.ClearField("input")),
                            "refused"),
    "ONNX without outputs": ("m.onnx", lambda: onnx_file(lambda p: p.graph.ClearField("output")),
                             "refused"),
    "ONNX without nodes": ("m.onnx", lambda: onnx_file(lambda p: p.graph.ClearField("node")),
                           "refused"),
    "ONNX cut short": ("m.onnx", lambda: exported("model.onnx")[:-2000], "refused"),
    "a program that is not trusted": ("m.pt2", lambda: pickle.dumps(Bomb()), "refused"),
    "a pickle called ONNX": ("m.onnx", lambda: pickle.dumps(Bomb()), "refused"),
}  # fmt: skip


def into_model(path: Path) -> Any:
    """Load a file of a user's into a network."""
    return load_file(model(), path)


def into_run(path: Path) -> Any:
    """Load a run's weights."""
    return load_weights(path, model())


def asked(path: Path) -> Any:
    """Open an exported network and ask it about an image."""
    found = open_classifier(path)
    return found.logits(np.zeros((1, *found.image_shape), np.uint8))


def _lazily(name: str, make: Callable[[], bytes]) -> Callable[[Path, Any], Path]:
    return lambda folder, random: written(name, make())(folder, random)


def _kinds() -> list[Kind]:
    found = []
    for what, (name, make, wanted) in WEIGHTS.items():
        found.append(Kind(f"weights: {what}", _lazily(name, make), into_model, wanted))
        if what != "compressed zeros":
            found.append(Kind(f"run's weights: {what}", _lazily("w.safetensors", make), into_run))
    found += [Kind(f"export: {what}", _lazily(name, make), asked, wanted)
              for what, (name, make, wanted) in EXPORTS.items()]  # fmt: skip
    for group, name, read in (
        ("weights", "w.pth", into_model), ("weights", "w.safetensors", into_model),
        ("run's weights", "w.safetensors", into_run), ("export", "m.onnx", asked),
        ("export", "m.safetensors", asked),
    ):  # fmt: skip
        found.append(Kind(f"{group}: a FIFO for {name}", fifo(name), read))
        if group != "run's weights":  # mapped into memory, for which there is no address here
            found.append(Kind(f"{group}: 50 GiB of nothing for {name}", sparse(name), read))
    return found


KINDS = _kinds()
assert os.name == "posix"
