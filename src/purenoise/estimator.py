"""The scikit-learn face: OPeN as a classifier with ``fit`` and ``predict``.

It is the same training as ``purenoise train`` (:mod:`purenoise.estimatorfit`), over arrays, with
scikit-learn's conventions around it: parameters that can be searched, labels of any type, errors
before anything is trained. Not offered: ``sample_weight`` and ``class_weight``, because the method
decides how classes are weighed, and ``partial_fit`` and warm starts, because its second phase
belongs to the end of a run.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from purenoise.data.asimages import Layout, Scale
from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.errors import DataError, TrainingError
from purenoise.estimatorfit import fit_dataset, on_device, recipe_from
from purenoise.evaluate import predict_logits
from purenoise.metrics import probabilities
from purenoise.training import Listener


class OPeNClassifier(ClassifierMixin, BaseEstimator):
    """Classify images of rare and common classes with a network trained by OPeN.

    X is ``(N, H, W)``, ``(N, H, W, C)``, or rows ``(N, F)`` with ``image_shape``. Numbers become
    pixels of 256 levels: uint8 as they are; numbers in [0, 1] times 255; all others linearly, black
    being the least number of the training array and white its greatest (later numbers beyond them
    are clipped). All images have one size.

    Args:
        model: A name for :func:`purenoise.models.build_model`: ``small_cnn``, ``resnet32``,
            ``torchvision:resnet18``, ``timm:NAME``.
        method: A method or ``A+B``: ``open``, ``erm``, ``drs``, ``balanced-softmax``, ...
        epochs: Passes over the training images.
        batch_size: Images per step.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        lr: Highest learning rate.
        momentum: Of SGD, in [0, 1).
        weight_decay: At least 0.
        schedule: ``cosine``, ``step`` or ``constant``.
        warmup: Epochs over which the learning rate rises; None: what suits the length.
        defer: Share of the epochs after which the method's second phase begins, in [0, 1].
        delta: Noise share of a vanishing class, in [0, 1].
        stop_gradient: ``branch``, ``affine`` or ``none``, see :mod:`purenoise.darbn`.
        augment: ``none``, ``crop``, ``flip-crop``, ``open``, ... Flips are done where the name
            has them: whether a mirrored image is still one of its class, only you know.
        image_shape: Of rows: ``(H, W)`` or ``(H, W, C)``, channels last. ``auto``: rows are no
            images; each is laid into the smallest grey square that holds it.
        val_fraction: Share of each class that is set aside and evaluated after each epoch, in
            [0, 1).
        random_state: Seed, generator or None: of weights, order, augmentation and noise.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: Of torch while it is fitted; ``auto``: one per core; None: as torch is set, which
            joblib lowers in its workers. Another number may change the last digits of a result.
        out: A folder for the run's files, as ``purenoise train`` writes them; an interrupted fit
            goes on there, and a finished one of the same data and parameters is read. One fit per
            folder: leave it away in a search.
        verbose: Whether to print the course of training.

    Attributes:
        classes_: The labels, sorted, shape (C,).
        n_features_in_: Numbers in one image.
        n_iter_: Epochs that were trained.
        history_: One record per epoch: learning rate, loss, accuracy on natural rows, and ``val``.
        model_: The network with plain batch norm, in evaluation mode, on the CPU.

    Raises:
        RecipeError: On ``fit``, naming every parameter that cannot be used.
        DataError: If X or y cannot be used. Both are ``ValueError`` as well.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> net = OPeNClassifier(epochs=2, image_shape=(8, 8), random_state=0)
        >>> net.fit(X[:200], y[:200]).predict_proba(X[200:203]).shape
        (3, 10)

    Source: Zada et al. 2022; the defaults are those of the recipe ``digits``.
    """

    def __init__(
        self,
        model: str = "small_cnn",
        method: str = "open",
        *,
        epochs: int = 60,
        batch_size: int = 64,
        optimizer: str = "sgd",
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 2e-4,
        schedule: str = "cosine",
        warmup: int | None = None,
        defer: float = 0.5,
        delta: float = 1 / 3,
        stop_gradient: str = "branch",
        augment: str = "crop",
        image_shape: tuple[int, ...] | Literal["auto"] | None = None,
        val_fraction: float = 0.0,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        threads: int | str | None = None,
        out: str | Path | None = None,
        verbose: bool | int = False,
    ) -> None:
        self.model = model
        self.method = method
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.defer = defer
        self.delta = delta
        self.stop_gradient = stop_gradient
        self.augment = augment
        self.image_shape = image_shape
        self.val_fraction = val_fraction
        self.random_state = random_state
        self.device = device
        self.threads = threads
        self.out = out
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike) -> OPeNClassifier:  # noqa: N803
        """Train a new network.

        Args:
            X: Images or rows, see the class.
            y: Labels of any type, shape (N,), of two classes at least.

        Returns:
            The classifier itself.

        Raises:
            RecipeError: If a parameter cannot be used (all such are named).
            DataError: If X or y cannot be used.
            ModelError: If the model cannot be built for these images.
            TrainingError: If the loss is no longer finite.
        """
        self.__dict__.pop("model_", None)  # what fails leaves no classifier of other data behind
        recipe = recipe_from(self.get_params(deep=False), self._seed(), self.threads)
        array, y = self._checked(X, y, reset=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"y has one class only, {self.classes_[0]!s}: there is nothing to tell apart.",
                "Give images of two classes at least.",
            )
        self.layout_ = Layout.learn(array, self.image_shape)
        self.scale_ = Scale.learn(array)
        self.n_features_in_ = int(np.prod(array.shape[1:]))
        images = MemoryImages(self.layout_.apply(self.scale_.apply(array)))
        nothing = Split(MemoryImages(images.array[:0]), np.zeros(0, np.int64))
        train = Split(images, codes.astype(np.int64))
        names = tuple(str(label) for label in self.classes_)
        listener, close = self._listener()
        try:
            fitted = fit_dataset(recipe, Dataset("arrays", names, train, nothing), listener,
                                 self.out)  # fmt: skip
        finally:
            close()
        self.model_, self.history_, self.normalize_ = fitted.model, fitted.history, fitted.constants
        self.n_iter_ = len(self.history_)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """Return the logits of images.

        Args:
            X: As in :meth:`fit`.

        Returns:
            Shape (N, C); with two classes (N,), the second's logit less the first's.

        Raises:
            NotFittedError: Before :meth:`fit`.
            DataError: If X is of another form than what was fitted.
            TrainingError: If outputs are not finite.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """Return the probabilities of images, in the order of ``classes_``.

        With ``method="open"`` they are for classes that are equally common.

        Args:
            X: As in :meth:`fit`.

        Returns:
            Shape (N, C), rows of sum 1.

        Raises:
            NotFittedError: Before :meth:`fit`.
            DataError: If X is of another form than what was fitted.
            TrainingError: If outputs are not finite.
        """
        return probabilities(self._logits(X)).astype(np.float32)

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the likeliest label of each image.

        Args:
            X: As in :meth:`fit`.

        Returns:
            Labels of the type that was fitted, shape (N,).

        Raises:
            NotFittedError: Before :meth:`fit`.
            DataError: If X is of another form than what was fitted.
            TrainingError: If outputs are not finite.
        """
        logits = self._logits(X)
        return self.classes_[logits.argmax(axis=1)]

    def _logits(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        check_is_fitted(self)
        array = self._checked(X, reset=False)
        self.layout_.check(array)
        images = MemoryImages(self.layout_.apply(self.scale_.apply(array)))
        mean, std = self.normalize_
        logits = predict_logits(on_device(self.model_, self.device), images, mean, std)
        if not np.isfinite(logits).all():
            raise TrainingError(
                "The network's outputs are not finite: its training went astray.",
                "Fit again with a lower lr, or a warmup of some epochs.",
            )
        return logits

    def _checked(self, X: Any, *y: Any, reset: bool) -> Any:  # noqa: N803
        """Let scikit-learn check arrays; it knows features of rows, and not of images."""
        try:
            ndim = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        except ValueError as error:
            raise DataError(
                "X is a list of arrays of different shapes.", "Bring all images to one size."
            ) from error
        if ndim > 2:
            return validate_data(self, X, *y, reset=reset, ensure_2d=False, allow_nd=True)
        if not reset and len(self.layout_.given) > 1 and ndim == 2:
            self.layout_.check(np.asarray(X))
        return validate_data(self, X, *y, reset=reset)

    def _seed(self) -> int:
        """The seed of a run: a whole number as it is, otherwise one that is drawn."""
        if isinstance(self.random_state, int | np.integer) and self.random_state >= 0:
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _listener(self) -> tuple[Listener, Any]:
        """Who hears of events, and what to call at the end."""
        if not self.verbose:
            return _warn, lambda: None
        from rich.console import Console

        from purenoise.terminal.progress import Display

        display = Display(Console(), int(self.epochs))
        return display, display.close

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _warn(name: str, event: dict[str, Any]) -> None:
    """Tell warnings, and nothing else."""
    if name == "warning":
        warnings.warn(event["text"], UserWarning, stacklevel=2)
