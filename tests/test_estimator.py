"""OPeNClassifier: scikit-learn's own checks, its tools around it, its forms of input, mistakes."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import purenoise as pn
from purenoise.checksums import event_line
from purenoise.errors import RunError
from purenoise.metrics import probabilities
from purenoise.runlog import read_events

from .estimatordata import COUNTS, X_TEST, Y_TEST, X, Y, quick

# Checks of scikit-learn that fail, each with its reason; five at most. docs/inloop.md lists them.
EXPECTED_FAILURES: dict[str, str] = {}


ARRAY_API = "check_array_api_input"  # runs only with a variable that is read at import: see below
CHECKED = pn.OPeNClassifier(
    image_shape="auto", epochs=4, batch_size=32, augment="none", random_state=0
)


CHECKS = [
    pytest.param(estimator, check, id=f"{getattr(check, 'func', check).__name__}-{number}")
    for number, (estimator, check) in enumerate(
        estimator_checks_generator(CHECKED, expected_failed_checks=EXPECTED_FAILURES, mark="xfail")
    )
    if getattr(check, "func", check).__name__ != ARRAY_API
]


def numpy_state() -> np.ndarray:
    """Return the state of numpy's global generator."""
    return np.random.get_state()[1].copy()  # noqa: NPY002 - that it is left alone is the point


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learn_checks(estimator, check):
    """Each check of scikit-learn passes, for rows that are laid out as images."""
    check(estimator)


def test_no_check_is_left_out():
    """All checks that scikit-learn has are run, few are expected to fail, none is skipped."""
    names = Counter(getattr(c, "func", c).__name__ for _, c in estimator_checks_generator(CHECKED))
    assert len(CHECKS) + names[ARRAY_API] == sum(names.values())
    assert names["check_classifiers_train"] == 3
    assert len(EXPECTED_FAILURES) <= 5
    assert EXPECTED_FAILURES.keys() <= names.keys()


def test_array_api_check_passes():
    """The check that needs scipy's switch for other array libraries passes where it is on."""
    code = (
        "import sys, purenoise as pn\n"
        "from sklearn.utils.estimator_checks import estimator_checks_generator\n"
        "net = pn.OPeNClassifier(image_shape='auto', epochs=1, random_state=0)\n"
        "found = [(e, c) for e, c in estimator_checks_generator(net)"
        " if getattr(c, 'func', c).__name__ == sys.argv[1]]\n"
        "[check(estimator) for estimator, check in found]\n"
        "print(len(found))\n"
    )
    env = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": str(Path(pn.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, ARRAY_API],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) >= 1


def test_forms_of_the_same_images_agree():
    """Images, images with channels, rows, float levels / 255: bit for bit the same network."""
    wanted = quick().fit(X, Y).decision_function(X_TEST)
    rows, tests = X.reshape(len(X), -1), X_TEST.reshape(len(X_TEST), -1)
    forms = [
        (quick(), X[..., None], X_TEST[..., None]),
        (quick(image_shape=(8, 8)), rows, tests),
        (quick(image_shape=(8, 8, 1)), pd.DataFrame(rows), pd.DataFrame(tests)),
        (quick(), X / 255, X_TEST / np.float32(255)),
        (quick(), (X / 255).tolist(), (X_TEST / 255).tolist()),
        (quick(), torch.from_numpy(X), torch.from_numpy(X_TEST)),
        (quick(image_shape=(8, 8)), 3.0 * rows - 7, 3.0 * tests - 7),  # the range is learnt
    ]
    for net, train, test in forms:
        assert np.array_equal(net.fit(train, Y).decision_function(test), wanted)


def test_colour_images_and_other_models():
    """Channels come last, as many as there are; models of other libraries go by their names."""
    colour = np.stack([X, 255 - X, X // 2], axis=-1)
    net = quick(model="torchvision:resnet18", epochs=1).fit(colour, Y)
    assert net.model_.conv1.in_channels == 3
    assert net.n_features_in_ == 8 * 8 * 3
    assert net.predict_proba(colour[:5]).shape == (5, 10)


@pytest.mark.parametrize("kind", [str, float, lambda c: -c, lambda c: f"class {c}"])
def test_labels_of_any_type(kind):
    """Predictions are labels as they were given, in their type; classes_ are sorted."""
    labels = np.array([kind(c) for c in Y.tolist()])
    net = quick().fit(X, labels)
    assert net.classes_.tolist() == sorted(set(labels.tolist()))
    assert net.predict(X_TEST).dtype == labels.dtype
    assert set(net.predict(X_TEST)) <= set(labels)


def test_scores_agree():
    """Labels, probabilities and logits say the same, in the order of classes_."""
    net = quick(epochs=6).fit(X, Y)
    logits, p = net.decision_function(X_TEST), net.predict_proba(X_TEST)
    assert np.allclose(p, probabilities(logits), atol=1e-7)
    assert np.array_equal(net.predict(X_TEST), net.classes_[logits.argmax(1)])
    assert net.score(X_TEST, Y_TEST) == np.mean(net.predict(X_TEST) == Y_TEST)
    two = np.isin(Y, (0, 3))
    net.fit(X[two], Y[two])
    margin = net.decision_function(X_TEST)
    assert margin.shape == (len(X_TEST),)
    assert np.allclose(net.predict_proba(X_TEST)[:, 1], 1 / (1 + np.exp(-margin)), atol=1e-6)
    assert np.array_equal(net.predict(X_TEST), np.where(margin > 0, 3, 0))


def test_open_happens_and_leaves_a_plain_network():
    """Noise is seen in the second phase only, and what is kept has ordinary batch norms."""
    net = quick(epochs=4, defer=0.5, val_fraction=0.2).fit(X, Y)
    noise = [record["noise_rows"] for record in net.history_]
    assert noise[:2] == [0, 0]
    assert min(noise[2:]) > 10
    norms = {type(m) for m in net.model_.modules() if "Norm" in type(m).__name__}
    assert norms == {torch.nn.BatchNorm2d}
    assert not net.model_.training
    assert net.n_iter_ == len(net.history_) == 4
    held = sum(net.history_[-1]["val"]["n_test"])
    assert held == sum(min(round(0.2 * n), n - 1) for n in COUNTS)


def test_method_is_that_of_the_recipes():
    """Another method is another second phase: drs has no noise, erm no second phase."""
    for method in ("drs", "erm", "balanced-softmax", "open+ldam"):
        history = quick(method=method, epochs=4).fit(X, Y).history_
        assert [record["phase"] for record in history][-1] == (method in ("drs", "open+ldam"))
        assert (history[-1]["noise_rows"] > 0) == method.startswith("open")
    with pytest.warns(UserWarning, match="they are favoured twice"):
        quick(method="open+ldam-drw", epochs=4).fit(X, Y)


def test_same_seed_same_network():
    """A seed gives the network again, whatever the global generators do, and leaves them alone."""
    torch.manual_seed(5)
    before = torch.get_rng_state(), numpy_state()
    first = quick().fit(X, Y).decision_function(X_TEST)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], numpy_state())
    torch.manual_seed(6)
    assert np.array_equal(quick().fit(X, Y).decision_function(X_TEST), first)
    assert not np.array_equal(quick(random_state=1).fit(X, Y).decision_function(X_TEST), first)
    drawn = [
        quick(random_state=np.random.RandomState(3)).fit(X, Y).decision_function(X_TEST)
        for _ in range(2)
    ]
    assert np.array_equal(*drawn)


def test_threads_are_given_back():
    """Fitting with a number of threads of its own leaves torch's as it was."""
    before = torch.get_num_threads()
    quick(threads=1).fit(X, Y)
    assert torch.get_num_threads() == before


def test_round_trips_keep_predictions(tmp_path):
    """Pickle and joblib give back a classifier that predicts the same; a clone is not fitted."""
    net = quick().fit(X, Y)
    wanted = net.predict_proba(X_TEST)
    assert np.array_equal(pickle.loads(pickle.dumps(net)).predict_proba(X_TEST), wanted)
    stream = io.BytesIO()
    joblib.dump(net, stream)
    stream.seek(0)
    assert np.array_equal(joblib.load(stream).predict_proba(X_TEST), wanted)
    assert clone(net).get_params() == net.get_params()
    assert not hasattr(clone(net), "model_")
    assert clone(net).set_params(delta=0.5, method="drs").delta == 0.5


def test_works_in_pipelines_and_cross_validation():
    """Steps before it may scale rows or shape images; cross-validation fits it anew."""
    rows = X.reshape(len(X), -1)
    scaled = make_pipeline(StandardScaler(), quick(image_shape=(8, 8)))
    assert scaled.fit(rows, Y).predict(rows).shape == Y.shape
    shaped = make_pipeline(FunctionTransformer(lambda r: r.reshape(-1, 8, 8)), quick(epochs=12))
    scores = cross_val_score(shaped, rows, Y, cv=3, scoring="balanced_accuracy")
    assert scores.shape == (3,)
    assert scores.min() > 0.2  # chance is 0.1


def test_grid_search_in_two_processes():
    """A search over method and delta in two processes finds what one process finds."""
    grid = [{"method": ["erm"]}, {"method": ["open"], "delta": [0.0, np.float64(1 / 3)]}]
    common = {"cv": 2, "scoring": "balanced_accuracy"}
    one, two = (
        GridSearchCV(quick(epochs=8), grid, n_jobs=n, **common).fit(X, Y) for n in (None, 2)
    )
    scores = [search.cv_results_["mean_test_score"] for search in (one, two)]
    assert np.allclose(*scores, atol=1e-6)
    assert len(set(scores[0])) > 1
    assert two.best_params_ == one.best_params_
    assert two.predict(X_TEST).shape == Y_TEST.shape


def test_feature_names_are_kept_and_checked():
    """Columns of a table are named; another table is refused by scikit-learn's own sentence."""
    table = pd.DataFrame(X.reshape(len(X), -1)).add_prefix("pixel")
    net = quick(image_shape=(8, 8)).fit(table, Y)
    assert net.feature_names_in_[:2].tolist() == ["pixel0", "pixel1"]
    with pytest.raises(ValueError, match="feature names should match"):
        net.predict(table[table.columns[::-1]])


def test_run_folder_is_written_only_if_asked_for(tmp_path, monkeypatch):
    """With out= there is a run that other commands read, and the result is the same to the bit."""
    monkeypatch.chdir(tmp_path)
    kept, free = quick(out="run").fit(X, Y), quick().fit(X, Y)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert np.array_equal(kept.decision_function(X_TEST), free.decision_function(X_TEST))
    losses = [[record["loss"] for record in net.history_] for net in (kept, free)]
    assert losses[0] == losses[1]
    assert kept.history_[0].keys() == free.history_[0].keys()
    again = quick(out="run").fit(X, Y)  # reads what is finished
    assert again.history_ == kept.history_
    assert np.array_equal(again.decision_function(X_TEST), free.decision_function(X_TEST))
    events = tmp_path / "run" / "events.jsonl"
    other = [{**event, "digest": "0" * 64} for event in read_events(events)]
    events.write_text("".join(map(event_line, other)))
    with pytest.warns(UserWarning, match="is of another run: history_ is empty"):
        assert quick(out="run").fit(X, Y).history_ == []
    with pytest.raises(RunError, match="a finished run of other images or labels than X and y"):
        quick(out="run").fit(X[:-1], Y[:-1])
    with pytest.raises(RunError, match="holds a run of another recipe"):
        quick(out="run", delta=0.1).fit(X, Y)


def test_verbose_prints_the_course(capsys):
    """With verbose phases and epochs are printed, without it nothing is."""
    quick().fit(X, Y)
    assert capsys.readouterr().out == ""
    quick(verbose=True).fit(X, Y)
    out = capsys.readouterr().out
    assert "from epoch 2: class-balanced sampling, noise: open" in out
    assert "epoch 2/2: loss " in out


@pytest.mark.long
def test_open_helps_rare_classes():
    """On long-tailed digits OPeN has the better balanced accuracy than plain training, in mean."""

    def score(method: str, seed: int) -> float:
        net = pn.OPeNClassifier(method=method, random_state=seed, threads=1).fit(X, Y)
        return balanced_accuracy_score(Y_TEST, net.predict(X_TEST))

    means = {m: np.mean([score(m, seed) for seed in range(5)]) for m in ("erm", "open")}
    assert means["open"] > means["erm"]
