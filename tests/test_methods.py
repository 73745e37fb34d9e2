"""Methods made concrete: boundaries of phases, priors, class weights, losses."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
import torch

from purenoise.combining import adjusted_twice
from purenoise.errors import DataError, RecipeError
from purenoise.losses import (
    CrossEntropyLoss,
    FocalLoss,
    LabelAwareSmoothingLoss,
    LDAMLoss,
    LogitAdjustedLoss,
)
from purenoise.methodfile import LossSpec, Method, known_methods, load_method
from purenoise.methods import Phase, build_phases, phase_at, statements
from purenoise.plan import plan_epoch

COUNTS = np.array([300, 90, 30, 6])
LABELS = np.repeat(np.arange(4), COUNTS).astype(np.int64)


def phases(method: str | Method, epochs: int = 200, defer: float = 0.8, **options) -> list[Phase]:
    """Make a method concrete on made-up labels."""
    given = load_method(method) if isinstance(method, str) else method
    rest = {"delta": 1 / 3, "seed": 0} | options
    return build_phases(given, LABELS, 4, epochs=epochs, defer=defer, **rest)


@pytest.mark.parametrize("method", ["drs", "drw", "ldam-drw", "open"])
def test_deferred_phase_begins_at_160_of_200(method: str):
    """Deferral at 0.8 of 200 epochs is epoch 160, counted from 0."""
    first, second = phases(method)
    assert (first.first, first.end, second.first, second.end) == (0, 160, 160, 200)


@pytest.mark.parametrize("method", known_methods())
@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 60, 320])
def test_phases_cover_every_epoch_once(method: str, epochs: int):
    """Every epoch belongs to exactly one phase."""
    made = phases(method, epochs)
    for epoch in range(epochs):
        assert [p for p in made if p.first <= epoch < p.end] == [phase_at(made, epoch)]


@pytest.mark.parametrize(("defer", "spans"), [(0, [(0, 10)]), (1, [(0, 10)])])
def test_a_phase_without_an_epoch_is_left_out(defer: float, spans: list[tuple[int, int]]):
    """Deferral at 0 or 1 leaves one phase: the second or the first."""
    made = phases("open", 10, defer)
    assert [(p.first, p.end) for p in made] == spans
    assert made[0].has_noise == (defer == 0)


def test_priors_of_the_open_phase_are_the_formulas():
    """All rows are uniform; natural rows follow 1 - (1 - n_i/n_max) delta."""
    priors = phases("open", delta=0.4)[1].priors(160)
    natural = 1 - (1 - COUNTS / COUNTS.max()) * 0.4
    np.testing.assert_allclose(priors["all"], np.full(4, 0.25), rtol=1e-12)
    np.testing.assert_allclose(priors["natural"], natural / natural.sum(), rtol=1e-12)


def test_priors_of_plain_training_are_the_counts():
    """Without resampling and noise both priors are the class frequencies."""
    for prior in phases("erm")[0].priors(0).values():
        np.testing.assert_allclose(prior, COUNTS / COUNTS.sum(), rtol=1e-12)


@pytest.mark.parametrize("method", ["erm", "drs", "open", "noise-augment"])
def test_priors_are_what_is_drawn(method: str):
    """Counted over many planned epochs, the rows of each class are those the priors announce."""
    phase = phases(method, delta=0.6)[-1]
    rows = {"all": np.zeros(4), "natural": np.zeros(4)}
    for epoch in range(160, 360):
        for plan in plan_epoch(phase, epoch, 128, 0):
            rows["all"] += np.bincount(plan.labels, minlength=4)
            rows["natural"] += np.bincount(LABELS[plan.natural], minlength=4)
    for name, prior in phase.priors(160).items():
        np.testing.assert_allclose(rows[name] / rows[name].sum(), prior, atol=0.006)


def test_deferred_weights_are_the_effective_number():
    """DRW weighs nothing first, then by (1 - b) / (1 - b^n) with mean 1."""
    first, second = phases("drw")
    assert first.loss(0).weight is None
    weights = (1 - 0.9999) / (1 - 0.9999**COUNTS)
    expected = torch.tensor(weights / weights.mean())
    found = second.loss(160)(torch.eye(4, dtype=torch.float64), torch.arange(4))
    rows = -torch.log_softmax(torch.eye(4, dtype=torch.float64), 1).diagonal()
    torch.testing.assert_close(found, (expected * rows).sum() / expected.sum())


@pytest.mark.parametrize(
    ("method", "kind"),
    [("erm", CrossEntropyLoss), ("focal", FocalLoss), ("ldam-drw", LDAMLoss),
     ("balanced-softmax", LogitAdjustedLoss), ("open+ldam", LDAMLoss),
     ("drs+label-aware-smoothing", LabelAwareSmoothingLoss), ("mixup-drw", CrossEntropyLoss)],
)  # fmt: skip
def test_loss_of_each_method(method: str, kind: type):
    """Each method has its loss in every phase."""
    assert {type(p.loss(p.first)) for p in phases(method)} == {kind}


def test_balanced_softmax_uses_the_prior_of_what_it_sees():
    """With `prior: all` it is cross-entropy in the OPeN phase, with `natural` it is not."""
    logits, labels = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 4
    plain = torch.nn.functional.cross_entropy(logits, labels)
    for prior, equal in (("all", True), ("natural", False)):
        method = Method.model_validate(
            {
                "loss": {"name": "balanced-softmax", "prior": prior},
                "phases": [{"sampler": "class-balanced", "noise": "open"}],
            }
        )
        value = phases(method)[0].loss(0)(logits, labels)
        assert torch.isclose(value, plain, rtol=1e-9) == equal


def test_a_class_without_images_is_refused():
    """A class of which no training image is left is named."""
    with pytest.raises(DataError, match=r"[Cc]lass.* 4"):
        build_phases(load_method("erm"), LABELS, 5, epochs=5, defer=0.8, delta=0.3, seed=0)


@pytest.mark.parametrize("delta", [-0.1, 1.1, float("nan")])
def test_delta_outside_its_range_is_refused(delta: float):
    """Delta is a probability."""
    with pytest.raises(RecipeError, match="delta"):
        phases("open", delta=delta)


# Deferral, and what a phase has of its own


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("deferred-rs", "drs"), ("deferred-rw", "drw"), ("deferred-tau-norm", "tau-norm"),
        ("deferred-logit-adjustment", "logit-adjustment"),
    ],
)  # fmt: skip
def test_deferring_gives_the_known_methods(name: str, same: str):
    """Deferred resampling is DRS, reweighting DRW; what comes at last anyway stays as it is."""
    assert load_method(name) == load_method(same)
    for a, b in zip(phases(name), phases(same), strict=True):
        assert (a.spec, a.loss_spec, a.first, a.end) == (b.spec, b.loss_spec, b.first, b.end)


def test_a_deferred_loss_begins_with_its_phase():
    """Deferred balanced softmax is cross-entropy first, then balanced softmax of the counts."""
    first, second = phases("deferred-balanced-softmax")
    assert type(first.loss(0)) is CrossEntropyLoss
    loss = second.loss(160)
    assert type(loss) is LogitAdjustedLoss
    prior = torch.from_numpy(COUNTS / COUNTS.sum())
    torch.testing.assert_close(loss.log_prior, prior.log())


def test_deferral_in_combinations():
    """In A+B a deferred B brings its loss and mixing late, a deferred A its sampler and noise."""
    first, second = load_method("open+deferred-balanced-softmax").phases
    assert (first.noise, second.noise, first.loss) == ("none", "open", None)
    assert second.loss is not None
    assert second.loss.name == "balanced-softmax"
    method = load_method("deferred-cmo+ldam")
    assert [phase.mix and phase.mix.name for phase in method.phases] == [None, "cmo"]
    assert [method.loss_of(phase).name for phase in method.phases] == ["ldam", "ldam"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("deferred-ldam", "no deferred-ldam: its loss 'ldam' needs a cosine head"),
        ("deferred-open", "no deferred-open: 'open' begins with a phase of its own"),
        ("deferred-mixupp", "Did you mean 'deferred-mixup'"),
        ("mixup+cmo", r"Both methods of 'mixup\+cmo' mix images"),
        ("mixup+deferred-mixup", "mix images, and not in the same way at the same time"),
        ("mixup+open", r"the noise 'open' of 'open'.*\nDid you mean 'open\+mixup'"),
        ("erm+open", "would lack the sampler 'class-balanced' and the noise 'open' of 'open'"),
        ("erm+open", "Did you mean 'open'"),
        ("ldam-drw+open", r"the loss 'ldam' and the class weights .*Did you mean 'open\+ldam-drw'"),
        ("ldam+crt", r"the loss 'ldam' of 'ldam'.*Did you mean 'crt\+ldam'"),
        ("drs+rs", "Did you mean 'rs'"),
        ("deferred-balanced-softmax+erm", "Did you mean 'deferred-balanced-softmax'"),
        ("focal+balanced-softmax", "The other way round something would be lost too"),
        ("logit-adjustment+drw", "twice: while it trains .its last phase weighs"),
        ("drw+logit-adjustment", "take the class shares out twice"),
        ("logit-adjustment+balanced-softmax", "its loss is 'balanced-softmax'"),
        ("logit-adjustment+weight-balancing", "take the class shares out twice"),
    ],
)
def test_what_cannot_be_deferred_or_combined_is_refused(name: str, sentence: str):
    """Each combination that makes no sense gets a sentence that says why."""
    with pytest.raises(RecipeError, match=f"(?s){sentence}"):
        load_method(name)


def features(method: Method) -> set[tuple[str, str, object]]:
    """List all that a method has beyond plain training, at the beginning and at the end."""
    found: set[tuple[str, str, object]] = set()
    for start in ("begin", "defer"):
        phase = method.at(start)
        loss = method.loss_of(phase).model_dump_json()
        have = {
            "sampler": phase.sampler.replace("instance", ""),
            "noise": phase.noise.replace("none", ""),
            "weights": phase.weights.replace("none", ""),
            "loss": loss if loss != LossSpec().model_dump_json() else "",
            "mix": phase.mix and phase.mix.model_dump_json(),
            "head": phase.head and phase.head.model_dump_json(),
        }
        found |= {(start, key, value) for key, value in have.items() if value}
    return found | ({("end", "post", method.post.name)} if method.post else set())


def test_no_combination_lacks_what_makes_up_its_parts():
    """Each pair of methods holds all of both and nothing else, or is refused.

    What a refusal names instead does hold all.
    """
    names = [*known_methods(), "deferred-balanced-softmax", "deferred-mixup"]
    combined = 0
    for a, b in product(names, repeat=2):
        both = features(load_method(a)) | features(load_method(b))
        try:
            assert features(load_method(f"{a}+{b}")) == both, f"{a}+{b}"
            combined += 1
        except RecipeError as error:
            meant = re.search(r"Did you mean '(.*)'", error.hint)
            if meant:
                assert features(load_method(meant[1])) == both, f"{a}+{b}"
    assert combined > 200


def test_a_second_stage_brings_its_sampler_and_weights():
    """On either side of A+B cRT learns on class-balanced samples, weight balancing with weights."""
    assert load_method("mixup+crt") == load_method("crt+mixup")
    assert load_method("mixup+crt").at("defer").sampler == "class-balanced"
    assert load_method("weight-balancing+focal").at("defer").weights == "effective-number"
    assert load_method("logit-adjustment+crt").post.prior == "sampled"


def test_only_a_prior_that_is_still_there_is_taken_out():
    """What counters the class shares before logit adjustment is named, also in methods written out.

    After class-balanced sampling the sampled prior is taken out, which is none.
    """
    post = {"name": "logit-adjustment"}
    written = Method(loss={"name": "balanced-softmax"}, post=post)
    assert adjusted_twice(written) == ["its loss is 'balanced-softmax'"]
    assert adjusted_twice(Method(post=post)) == []
    assert adjusted_twice(load_method("open+logit-adjustment")) == []
    assert adjusted_twice(load_method("tau-norm+drw")) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("erm", []), ("drw", []), ("open", []), ("open+ldam", []), ("balanced-softmax", []),
        ("open+drw", ["161 to 200 rare classes are drawn more often (class-balanced) and weigh"]),
        ("open+ldam-drw", ["161 to 200 rare classes are drawn more often"]),
        ("open+balanced-softmax", ["In epochs 161 to 200 all classes are drawn alike, so the"]),
        ("rs+balanced-softmax", ["In all epochs all classes are drawn alike"]),
    ],
)  # fmt: skip
def test_what_parts_do_together_is_stated(name: str, said: list[str]):
    """Favouring rare classes twice, and a prior that sampling has taken away, are told."""
    found = statements(phases(name))
    assert len(found) == len(said)
    assert all(text in line for text, line in zip(said, found, strict=True))


def test_a_prior_of_natural_rows_is_no_uniform_one():
    """With noise set apart, balanced softmax has something to take out in OPeN's phase."""
    method = load_method("open+balanced-softmax")
    own = method.model_copy(update={"loss": LossSpec(name="balanced-softmax", prior="natural")})
    assert statements(phases(own)) == []


def test_phases_with_another_head_are_refused():
    """A method written out cannot have a cosine head in one of its phases only."""
    with pytest.raises(ValueError, match="cosine head"):
        Method.model_validate({"phases": [{}, {"start": "defer", "loss": {"name": "ldam"}}]})
    assert Method(loss=LossSpec(name="ldam")).cosine
    assert not load_method("open").cosine


def test_equal_mixing_of_both_is_no_conflict():
    """Mixup with the weights of mixup-drw is mixup-drw."""
    assert load_method("mixup+mixup-drw") == load_method("mixup-drw")


@pytest.mark.parametrize("name", ["mixup", "remix", "cutmix", "cmo", "label-aware-smoothing"])
def test_what_is_not_there_is_not_written(name: str):
    """A phase without mixing or loss of its own is written as ever, so no older hash changes."""
    written = load_method("open").model_dump(mode="json")
    assert all(set(p) == {"start", "sampler", "weights", "noise"} for p in written["phases"])
    method = load_method(name)
    assert Method.model_validate(method.model_dump(mode="json")) == method
