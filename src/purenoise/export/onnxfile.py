"""A network as ONNX: one file, any number of images, run by onnxruntime without torch.

Operator set 18, which every runtime since 2023 reads. The file's ``metadata_props`` hold the
manifest as JSON under ``purenoise``. onnx, onnxscript and onnxruntime come with the extra ``onnx``.

An ONNX file is data: the runtime runs its own operators and no code of the file. What a file could
still do is name other files to read its numbers from, so one that does is not read.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from purenoise.errors import ModelError, RunError
from purenoise.export.checking import Logits, Probe, difference
from purenoise.export.manifest import KEY, Manifest, read_manifest
from purenoise.export.program import traced
from purenoise.export.standalone import INPUT, OUTPUT, answers, as_input
from purenoise.smallfile import read_small

SUFFIX = ".onnx"
MOST_BYTES = 2 << 30  # which is what the format allows
OPSET = 18
BATCH = 64
LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")  # they tell their own users what they do


def onnx_bytes(model: nn.Module, shape: tuple[int, int, int], manifest: Manifest | None) -> bytes:
    """Return a network as an ONNX file.

    Args:
        model: From images (N, C, H, W) to logits, in evaluation mode, on the CPU.
        shape: Channels, height and width.
        manifest: What the file says of itself; None: nothing.

    Raises:
        ModelError: If a library is missing, or the model has no form in ONNX.
    """
    needed("onnx", "onnxscript")
    program = traced(model, shape)
    try:
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, verbose=False,
                input_names=[INPUT], output_names=[OUTPUT],
            )  # fmt: skip
    except Exception as error:  # of many types, from two libraries
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The model has no form in ONNX: {text or type(error).__name__}",
            "Export it as weights or pt2.",
        ) from error
    assert made is not None
    proto = made.model_proto
    _name_and_strip(proto)
    if manifest is not None:
        proto.metadata_props.add(key=KEY, value=manifest.to_json())
    return bytes(proto.SerializeToString())


def check_onnx(model: nn.Module, shape: tuple[int, int, int], probe: Probe | None = None) -> float:
    """Export a network to ONNX in memory and hold onnxruntime's answers against torch's.

    Args:
        model: From images (N, C, H, W) to logits, in evaluation mode, on the CPU.
        shape: Channels, height and width.
        probe: Images to compare on; None: four of uniform noise.

    Returns:
        The largest difference of logits.

    Raises:
        ModelError: If a library is missing, or the model has no form in ONNX.
        RunError: If logits differ by more than 1e-4 or an image gets another class.
    """
    if probe is None:
        pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
        probe = Probe(pixels, "uniform noise")
    return check_bytes(onnx_bytes(model, shape, None), model, probe)


def check_bytes(content: bytes, model: nn.Module, probe: Probe) -> float:
    """Hold an ONNX file's answers against its network's; also for one image.

    Raises:
        RunError: If they differ.
    """
    run = _session(content, "The ONNX file")
    wanted = answers(model, probe.images)
    difference(wanted[:1], run(probe.images[:1]), "The ONNX file with one image")
    return difference(wanted, run(probe.images), "The ONNX file")


def read_onnx(path: Path) -> tuple[Callable[[NDArray[np.uint8]], Logits], Manifest]:
    """Read an ONNX file; no code of the file is run, and no other file is read.

    Raises:
        ModelError: If onnx or onnxruntime is missing.
        RunError: If the file cannot be read, keeps its numbers in other files, or says nothing of
            itself.
    """
    needed("onnx", "onnxruntime")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        content = read_small(path, MOST_BYTES)
        proto = onnx.load_model_from_string(content)
    except (OSError, DecodeError, ValueError) as error:
        raise RunError(f"{path} is truncated or no ONNX file.", "Export the run again.") from error
    outside = [t.name for t in _tensors(proto) if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise RunError(
            f"{path} keeps {len(outside)} tensors in other files, which are not read.",
            "Give a file that holds all of its numbers, as `purenoise export` writes it.",
        )
    texts = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    manifest = read_manifest(texts[0] if texts else None, path)
    return _session(content, str(path)), manifest


def needed(*modules: str) -> None:
    """Say in a sentence that a library of the extra is missing.

    Raises:
        ModelError: If it is.
    """
    missing = []
    for name in modules:
        try:
            with _quiet():
                importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ModelError(
            f"ONNX needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed.",
            'Install it with: pip install "purenoise[onnx]"',
        )


def _session(content: bytes, name: str) -> Callable[[NDArray[np.uint8]], Logits]:
    """Return what answers for uint8 images (N, C, H, W), by onnxruntime on the CPU."""
    needed("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session: Any = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime has a dozen types of its own
        text = " ".join(str(error).split())[:200]
        raise RunError(f"{name} cannot be run by onnxruntime: {text}") from error
    key = session.get_inputs()[0].name

    def answer(images: NDArray[np.uint8]) -> Logits:
        parts = [
            session.run(None, {key: as_input(images[i : i + BATCH])})[0]
            for i in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts)

    return answer


def _name_and_strip(proto: Any) -> None:
    """Name the number of images, and drop what tells of the machine that exported the file."""
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output,
                 *proto.graph.initializer, *proto.graph.value_info, proto.graph):  # fmt: skip
        del part.metadata_props[:]
    del proto.graph.value_info[:]  # shapes in the name that the first dimension had


def _tensors(proto: Any) -> Iterator[Any]:
    """Yield all tensors of a model, wherever they are: weights, attributes, inner graphs."""
    import onnx

    stack: list[Any] = [proto]
    while stack:
        message = stack.pop()
        if isinstance(message, onnx.TensorProto):
            yield message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                stack.extend(value if hasattr(value, "__len__") else [value])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings and log lines, which are about themselves, from the user."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
