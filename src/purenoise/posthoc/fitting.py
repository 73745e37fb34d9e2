"""Temperature and class offsets of a trained classifier, fitted on validation logits alone.

Temperature scaling divides all logits by one number T > 0, which changes no prediction, only how
sure they are. Source: Guo et al. 2017, section 4.2: T minimises the negative log-likelihood (NLL).

Class offsets add a number to the logit of each class, so that rare classes get their due. What is
wanted is balanced accuracy, but that is a step function of the offsets: it has no gradient, and
with the two or three validation images of a rare class its maximum is an accident. So the offsets
minimise the class-balanced NLL, the mean over classes of the mean NLL of their images: it is
convex, its gradient is exact, and the best of all classifiers for it is also the best for balanced
accuracy. With n_c validation images of class c, pi the class shares in training and q those wanted
(all equal unless given),

    b_c = -t log pi_c + r_c,   minimise  sum_c q_c NLL_c(z + b) + (l2 / 2) sum_c (q_c / n_c) r_c^2,

first over t with r = 0: logit adjustment (Menon et al. 2021, equation 9) with its strength fitted,
one number for all classes; then over r with that t. So a class can leave logit adjustment only as
far as its own images carry it: the penalty is that of a normal prior with deviation 1 / sqrt(l2)
on r_c where each image of class c counts once. (Both at once would let a single odd image of a rare
class drag t along, while the remainders of the other classes, which have many images, undo it.) A
class without validation images takes no part and has r_c = 0.

Differs: Guo et al. weigh validation images alike, which share the classes of the training set; here
classes weigh as they are wanted. ``target_prior="as it is"`` gives theirs.

Numpy and SciPy, float64; nothing here ever sees a test image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purenoise.errors import DataError, RecipeError

COLDEST, HOTTEST = 0.01, 100.0  # between which T is sought
STRONGEST = 10.0  # strength of logit adjustment that is sought
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Args:
        value: T, by which logits are divided; 1 if the images do not determine it.
        nll: Before and after, on the images it was fitted on, as they were weighed.
        determined: False if the best T would be 0 (all images are right) or infinity.
    """

    value: float
    nll: tuple[float, float]
    determined: bool


@dataclass(frozen=True)
class Offsets:
    """Fitted offsets.

    Args:
        values: What is added to the logit of each class, with mean 0.
        strength: t, of logit adjustment.
        l2: The penalty that was used.
        nll: Before and after, on the images they were fitted on, as they were weighed.
        without_images: Classes that had none.
    """

    values: tuple[float, ...]
    strength: float
    l2: float
    nll: tuple[float, float]
    without_images: tuple[int, ...]


def fit_temperature(
    logits: ArrayLike, labels: ArrayLike, target_prior: ArrayLike | str | None = None
) -> Temperature:
    """Find the temperature with the least negative log-likelihood.

    Args:
        logits: Of validation images, shape (N, C).
        labels: Their classes, int of shape (N,), 0..C-1.
        target_prior: Shares of the classes where the network will be used, shape (C,); None: all
            equal; ``"as it is"``: every image weighs the same. Classes without images are left out.

    Returns:
        The temperature, between 0.01 and 100.

    Raises:
        DataError: If shapes do not fit, there are no images, or logits are not finite.

    Example:
        >>> z = [[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]]
        >>> found = fit_temperature(z, [0, 0, 1, 1])  # right 3 times of 4, and 98 % sure
        >>> round(found.value, 3), found.determined
        (3.641, True)

    Source: Guo et al. 2017, section 4.2. The NLL is convex in 1 / T, so there is one minimum.
    """
    from scipy import optimize

    z, y = _checked(logits, labels)
    weights = _weights(y, z.shape[1], target_prior)

    def nll(log_t: float) -> float:
        return float(weights @ _nll(z / math.exp(log_t), y))

    ends = (math.log(COLDEST), math.log(HOTTEST))
    found = optimize.minimize_scalar(nll, bounds=ends, method="bounded", options={"xatol": 1e-9})
    rest = np.delete(z.ravel(), np.arange(len(y)) * z.shape[1] + y).reshape(len(y), -1)
    all_right = (z[np.arange(len(y)), y] > rest.max(axis=1, initial=-np.inf))[weights > 0].all()
    if all_right or min(abs(found.x - end) for end in ends) < 1e-3:
        return Temperature(1.0, (nll(0.0), nll(0.0)), False)
    return Temperature(math.exp(found.x), (nll(0.0), float(found.fun)), True)


def fit_offsets(
    logits: ArrayLike,
    labels: ArrayLike,
    train_prior: ArrayLike,
    target_prior: ArrayLike | str | None = None,
    l2: float = 1.0,
) -> Offsets:
    """Find what to add to the logit of each class for the best class-balanced likelihood.

    Args:
        logits: Of validation images, shape (N, C).
        labels: Their classes, int of shape (N,), 0..C-1.
        train_prior: Shares or counts of the classes in training, above 0, shape (C,).
        target_prior: See :func:`fit_temperature`.
        l2: Penalty on what logit adjustment does not explain, above 0: see the module.

    Returns:
        The offsets.

    Raises:
        DataError: If shapes do not fit, there are no images, or logits are not finite.
        RecipeError: If ``l2`` is not above 0.

    Example:
        >>> z = [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.5, 0.0]]
        >>> found = fit_offsets(z, [0, 0, 1, 1], [90, 10])
        >>> found.values[1] > 0 > found.values[0]
        True
    """
    from scipy import optimize

    z, y = _checked(logits, labels)
    classes = z.shape[1]
    prior = np.asarray(train_prior, np.float64)
    if prior.shape != (classes,) or not (prior > 0).all():
        raise DataError(f"The training prior must have {classes} numbers above 0, one per class.")
    weights = _weights(y, classes, target_prior)
    if not (math.isfinite(l2) and l2 > 0):
        raise RecipeError(f"l2 is {l2!r}, and must be a number above 0.")
    shares = np.bincount(y, weights, minlength=classes)
    present = shares > 0
    direction = -np.log(prior / prior.sum())
    direction -= direction.mean()
    # The rows of classes that are not wanted have weight 0; their columns take no part either.
    seen, place = np.flatnonzero(present), np.cumsum(present) - 1
    rows = np.flatnonzero(weights > 0)
    zs, ys, ws, along = z[rows][:, seen], place[y[rows]], weights[rows], direction[seen]
    penalty = l2 * (shares / np.maximum(np.bincount(y, minlength=classes), 1))[seen]
    truth = np.zeros_like(zs)
    truth[np.arange(len(ys)), ys] = 1.0

    def strength_nll(t: float) -> float:
        return float(ws @ _nll(zs + t * along, ys))

    t = 0.0
    if along.any():
        found = optimize.minimize_scalar(strength_nll, bounds=(-STRONGEST, STRONGEST),
                                         method="bounded", options={"xatol": 1e-9})  # fmt: skip
        t = float(found.x)

    def objective(r: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        shifted = zs + t * along + r
        p = np.exp(shifted - shifted.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        value = float(ws @ _nll(shifted, ys)) + float(penalty @ r**2) / 2
        return value, ws @ (p - truth) + penalty * r

    remainder = optimize.minimize(
        objective, np.zeros(len(seen)), jac=True, method="L-BFGS-B",
        options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-9},
    )  # fmt: skip
    offsets = t * direction
    offsets[seen] += remainder.x
    offsets -= offsets.mean()  # which changes nothing
    before = float(ws @ _nll(zs, ys))
    after = float(ws @ _nll(zs + offsets[seen], ys))
    without = tuple(int(c) for c in np.flatnonzero(np.bincount(y, minlength=classes) == 0))
    return Offsets(tuple(offsets.tolist()), t, l2, (before, after), without)


def _nll(z: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log softmax of the true class, per row."""
    top = z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(z - top).sum(axis=1)) + top[:, 0]
    return log_sum - z[np.arange(len(y)), y]


def _weights(
    y: NDArray[np.int64], classes: int, target_prior: ArrayLike | str | None
) -> NDArray[np.float64]:
    """Return weights of images that sum to 1 and give classes the shares that are wanted."""
    counts = np.bincount(y, minlength=classes)
    if isinstance(target_prior, str):
        if target_prior != AS_IT_IS:
            raise DataError(f"target_prior is {target_prior!r}: give shares, None or {AS_IT_IS!r}.")
        return np.full(len(y), 1 / len(y))
    shares = np.ones(classes) if target_prior is None else np.asarray(target_prior, np.float64)
    if shares.shape != (classes,) or not (np.isfinite(shares) & (shares >= 0)).all():
        raise DataError(
            f"The target prior must have {classes} numbers, one per class, not below 0."
        )
    shares = np.where(counts > 0, shares, 0.0)
    if shares.sum() == 0:
        raise DataError("No class that is wanted has an image to fit on.")
    return (shares / shares.sum() / np.maximum(counts, 1))[y]


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    z, y = np.asarray(logits, np.float64), np.asarray(labels)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise DataError(
            f"Logits {z.shape} and labels {y.shape} do not fit.", "They are (N, C) and (N,)."
        )
    if len(y) == 0:
        raise DataError("There are no validation images to fit on.", "Train with val_fraction=0.1.")
    if not np.isfinite(z).all():
        raise DataError("The logits are not finite: the model has diverged.")
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= z.shape[1]:
        raise DataError(f"Labels must be whole numbers from 0 to {z.shape[1] - 1}.")
    return z, y.astype(np.int64)
