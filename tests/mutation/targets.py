"""Which modules get faults, and which tests are asked to notice them, likeliest first.

The six parts of the method: noise, DAR-BN, conversion, long tails, samplers, losses. Each module's
own tests come first, then those that use it in a step or in training. Left out: the joining of
statistics over processes (:mod:`purenoise.syncnorm`), whose tests start processes that would not
see a mutant.
"""

from __future__ import annotations

STEP = ("test_noise_pass", "test_twopass")
BATCH_NORM = ("test_darbn", "test_masked", "test_synced_layer", *STEP, "test_conversion")

TESTS: dict[str, tuple[str, ...]] = {
    "noise": ("test_noise", "test_noise_kinds", "test_inloop"),
    "noisesource": ("test_noise_kinds",),
    "darbn": BATCH_NORM,
    "masked": ("test_masked", "test_darbn"),
    "maskedpass": ("test_masked", "test_training"),
    "passes": (*STEP, "test_darbn", "test_conversion"),
    "twopass": ("test_noise_pass", "test_twopass", "test_inloop"),
    "exactness": (*STEP, "test_darbn", "test_conversion", "test_batch_norm_kinds"),
    "conversion": ("test_conversion", "test_noise_pass", "test_timm"),
    "longtail": ("test_longtail", "test_samplers", "test_noise", "test_priors"),
    "samplers": ("test_samplers", "test_plan", "test_inloop"),
    "deferred": ("test_inloop", "test_samplers"),
    "losses": ("test_losses", "test_priors"),
    "lossbase": ("test_losses", "test_mixing", "test_priors"),
    "mixedlabels": ("test_mixing", "test_losses"),
    "draws": ("test_draws", "test_augment", "test_mixing", "test_auto_ops"),
}
# Slow for what they add: whole runs, and large networks where small ones are tried.
LEFT_OUT = (
    "the_comparison_can_fail", "resumed_run", "stopped_at_any",
    "equals_a_plain_loop", "second_sets", "fit_with_mixing", "methods_with_mixing", "resnet18",
    "wide_resnet16", "folders_of_their_own", "every_subset_trains", "images_of_a_folder",
)  # fmt: skip


def files(module: str) -> list[str]:
    """Return the test files for a module, as paths from the root."""
    return [f"tests/{name}.py" for name in TESTS[module]]
