"""Which modules get faults, and which tests are asked to notice them, likeliest first.

The six parts of the method: noise, DAR-BN, conversion, long tails, samplers, losses. Each module's
own tests come first, then those that use it in a step or in training. Left out: the joining of
statistics over processes (:mod:`purenoise.syncnorm`), whose tests start processes that would not
see a mutant, and the tests of compiled models, which take as long as all others together.
"""

from __future__ import annotations

STEP = ("test_noise_pass", "test_twopass")
BATCH_NORM = ("test_darbn", "test_masked", *STEP, "test_conversion", "test_batch_norm_kinds")
TRAINING = ("test_training",)

TESTS: dict[str, tuple[str, ...]] = {
    "noise": ("test_noise", "test_noise_kinds", "test_inloop"),
    "noisesource": ("test_noise_kinds", *TRAINING),
    "darbn": BATCH_NORM,
    "masked": ("test_masked", "test_darbn"),
    "maskedpass": ("test_masked", *TRAINING),
    "passes": (*STEP, "test_darbn", "test_conversion"),
    "twopass": ("test_twopass", "test_inloop", "test_noise_pass"),
    "exactness": (*STEP, "test_darbn", "test_conversion", "test_batch_norm_kinds"),
    "conversion": ("test_conversion", "test_darbn", "test_timm"),
    "longtail": ("test_longtail", "test_samplers", "test_noise", "test_priors"),
    "samplers": ("test_samplers", "test_plan", "test_inloop"),
    "deferred": ("test_inloop", "test_samplers"),
    "losses": ("test_losses", "test_priors"),
    "lossbase": ("test_losses", "test_mixing", "test_priors"),
    "mixedlabels": ("test_mixing", "test_losses"),
    "draws": ("test_augment", "test_mixing", "test_auto_ops"),
}
# Slow for what they add here: compiled models, many networks, subprocesses.
LEFT_OUT = (
    "compiled", "does_not_recompile", "the_comparison_can_fail", "resumed_run",
)  # fmt: skip


def files(module: str) -> list[str]:
    """Return the test files for a module, as paths from the root."""
    return [f"tests/{name}.py" for name in TESTS[module]]
