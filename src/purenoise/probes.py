"""What a trained network says of images that belong to no class: how sure it is, and of what.

A network trained on noise images has been told what to say of noise: the labels of the images that
noise replaced. What it makes of that is seen on noise drawn as OPeN draws it, and on images of
something else altogether: patches of the two photographs that scikit-learn carries along, or a
folder that the user names.

The area under the ROC curve is that of the largest probability as a sign that an image belongs to
one of the classes: 0.5 says nothing, 1 tells them apart (the baseline of Hendrycks & Gimpel 2017).

The images come from generators of their own with a fixed seed, so all runs on one data set see the
same ones, and training's random numbers stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from purenoise.augment import normalize
from purenoise.data.decode import is_image, load_image, to_pixels
from purenoise.errors import DataError, PureNoiseError
from purenoise.evaluate import Interrupted, Question, evaluating, never
from purenoise.noise import noise_images
from purenoise.prepare import Prepared
from purenoise.runtime import generator

N = 500
SEED = 0
BATCH = 100
PATCH_SIDES = 64, 192  # pixels of a photograph that a patch is cut from
PHOTOGRAPHS = "patches of scikit-learn's two sample photographs"


def probe(
    model: nn.Module, data: Prepared, test_logits: NDArray[np.float32] | None,
    stopping: Question = never,
) -> dict[str, Any]:  # fmt: skip
    """Ask a network about noise images and about images of no class.

    Args:
        model: Left in the mode in which it was.
        data: What it was trained on: size, constants of normalisation, statistics of the noise.
        test_logits: Of its test images, shape (N, C); None if there are none.
        stopping: Asked before each batch.

    Returns:
        Plain numbers (JSON): ``test`` with the mean of the largest probability, ``noise`` and
        ``no_class`` with what :func:`describe` says; ``no_class`` is None if scikit-learn lacks its
        photographs.

    Raises:
        Interrupted: If it was told to stop.
    """
    shape = data.dataset.image_shape
    noise = _ask(model, _noise(shape, data), data.mean, data.std, stopping)
    try:
        patches = photograph_patches(shape)
    except (OSError, ImportError):  # some packagings leave the photographs out
        other = None
    else:
        logits = _ask(model, _pieces(patches), data.mean, data.std, stopping)
        other = describe(logits, test_logits, PHOTOGRAPHS)
    kind = "drawn as OPeN draws them"
    test = None if test_logits is None else {"confidence": _mean_confidence(test_logits)}
    return {"test": test, "noise": describe(noise, test_logits, kind), "no_class": other}


def probe_folder(
    model: nn.Module, summary: dict[str, Any], test_logits: Any, folder: str | Path
) -> dict[str, Any]:
    """Ask a network about the images of a folder, none of which belongs to a class.

    Args:
        model: Of a finished run.
        summary: Of that run.
        test_logits: Of its test images, or None.
        folder: Images at any depth; those that cannot be read are left out.

    Returns:
        What :func:`describe` says.

    Raises:
        DataError: If there is no image that can be read.
    """
    shape = tuple(summary["image_shape"])
    mean, std = summary["normalize"]
    images = np.stack(_readable(Path(folder), (shape[0], shape[1], shape[2])))
    logits = _ask(model, _pieces(images), mean, std)
    return describe(logits, test_logits, f"{len(images)} images of {str(folder)!r}")


def describe(logits: Any, test_logits: Any, what: str) -> dict[str, Any]:
    """Sum up what a network says of images that belong to no class.

    Args:
        logits: Of these images, shape (N, C).
        test_logits: Of test images, shape (M, C), or None.
        what: What the images are.

    Returns:
        ``what``, ``n``, ``confidence`` (mean of the largest probability), ``share`` (of the
        predictions, per class) and ``auroc``; None for what cannot be said.

    Example:
        >>> found = describe([[3.0, 0.0], [0.0, 1.0]], [[5.0, 0.0]], "two")
        >>> found["share"], found["auroc"], round(found["confidence"], 3)
        ([0.5, 0.5], 1.0, 0.842)
    """
    z = np.asarray(logits, np.float64)
    if not np.isfinite(z).all():
        return {"what": what, "n": len(z), "confidence": None, "share": None, "auroc": None}
    share = np.bincount(z.argmax(axis=1), minlength=z.shape[1]) / len(z)
    known = test_logits is not None and np.isfinite(test_logits).all()
    area = auroc(_sureness(np.asarray(test_logits, np.float64)), _sureness(z)) if known else None
    return {"what": what, "n": len(z), "confidence": _mean_confidence(z), "share": share.tolist(),
            "auroc": area}  # fmt: skip


def auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return the chance that a positive scores above a negative, a tie counting as half.

    Args:
        positive: Scores, shape (N,).
        negative: Scores, shape (M,).

    Example:
        >>> auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
        0.875
    """
    from scipy.stats import rankdata

    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def photograph_patches(shape: tuple[int, int, int], n: int = N) -> NDArray[np.uint8]:
    """Cut patches of scikit-learn's two sample photographs, scaled to the size of the images.

    Args:
        shape: Channels (1: made grey, or 3), height and width.
        n: How many; always the same ones.

    Returns:
        uint8, shape (n, C, H, W).
    """
    from sklearn.datasets import load_sample_images

    mode = "L" if shape[0] == 1 else "RGB"  # made grey as a whole, which is sooner done
    photographs = [Image.fromarray(array).convert(mode) for array in load_sample_images().images]
    draws = np.random.default_rng(SEED)
    patches = []
    for i in range(n):
        photograph = photographs[i % len(photographs)]
        side = int(draws.integers(*PATCH_SIDES))
        left, top = (int(draws.integers(0, length - side)) for length in photograph.size)
        box = (left, top, left + side, top + side)
        patches.append(to_pixels(photograph.crop(box), shape))
    return np.stack(patches)


def _noise(shape: tuple[int, int, int], data: Prepared) -> Iterator[Tensor]:
    """Yield noise as OPeN draws it, in pieces of bounded size."""
    draws = generator(SEED)
    for start in range(0, N, BATCH):
        n = min(BATCH, N - start)
        yield noise_images(n, shape[1:], data.noise_mean, data.noise_std, draws)


def _pieces(images: NDArray[np.uint8]) -> Iterator[Tensor]:
    for start in range(0, len(images), BATCH):
        yield torch.from_numpy(images[start : start + BATCH]) / 255


def _ask(
    model: nn.Module, batches: Iterator[Tensor], mean: Any, std: Any, stopping: Question = never
) -> NDArray[np.float64]:
    """Return the logits of images in [0, 1], shape (N, C)."""
    first, parts = next(model.parameters()), []
    with torch.inference_mode(), evaluating(model):
        for b in batches:
            if stopping():
                raise Interrupted
            b = b.to(first.device, first.dtype)
            parts.append(model(normalize(b, mean, std)).double().cpu())
    return torch.cat(parts).numpy()


def _readable(folder: Path, shape: tuple[int, int, int]) -> list[NDArray[np.uint8]]:
    if not folder.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}.", "Name a folder of images.")
    found = []
    is_file: Callable[[Path], bool] = lambda p: p.is_file() and is_image(p)  # noqa: E731
    for path in filter(is_file, sorted(folder.rglob("*"))):
        try:
            found.append(load_image(path, shape))
        except PureNoiseError:
            continue
        if len(found) == N:
            break
    if not found:
        raise DataError(f"{str(folder)!r} holds no image that can be read.")
    return found


def _sureness(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log of the largest probability, which still tells apart what rounds to 1."""
    rest = np.exp(z - z.max(axis=1, keepdims=True))
    rest[np.arange(len(z)), z.argmax(axis=1)] = 0
    return -np.log1p(rest.sum(axis=1))


def _mean_confidence(logits: Any) -> float:
    return float(np.exp(_sureness(np.asarray(logits, np.float64))).mean())
