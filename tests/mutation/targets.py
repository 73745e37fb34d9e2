"""Which modules get faults, and which tests are asked to notice them, likeliest first.

The six parts of the method: noise, DAR-BN, conversion, long tails, samplers, losses. Each module's
own tests come first, then those that use it in a step or in training. Left out: the joining of
statistics over processes (:mod:`purenoise.syncnorm`), whose tests start processes that would not
see a mutant.
"""

from __future__ import annotations

STEP = ("test_noise_pass", "test_twopass")
DARBN = ("test_darbn", "test_darbn_layers")
BATCH_NORM = (*DARBN, "test_masked", "test_synced_layer", *STEP, "test_conversion")
KINDS_OF_BATCH_NORM = ("test_batch_norm_kinds", "test_batch_norm_training")
NOISE_KINDS = ("test_noise_kinds", "test_noise_folder", "test_noise_recipes")
SAMPLERS = ("test_samplers", "test_labels", "test_samplers_resume", "test_deferred_sampler")
LOSSES = ("test_losses", "test_losses_inputs", "test_label_aware_smoothing")
MIXING = ("test_mixing", "test_mixing_plan")

TESTS: dict[str, tuple[str, ...]] = {
    "noise": ("test_noise", *NOISE_KINDS, "test_inloop"),
    "noisesource": NOISE_KINDS,
    "darbn": BATCH_NORM,
    "masked": ("test_masked", *DARBN),
    "maskedpass": ("test_masked", "test_training"),
    "passes": (*STEP, *DARBN, "test_conversion"),
    "twopass": ("test_noise_pass", "test_twopass", "test_inloop"),
    "exactness": (*STEP, *DARBN, "test_conversion", *KINDS_OF_BATCH_NORM),
    "conversion": ("test_conversion", "test_conversion_timm", "test_noise_pass", "test_timm"),
    "longtail": ("test_longtail", *SAMPLERS, "test_noise", "test_priors"),
    "samplers": (*SAMPLERS, "test_plan", "test_inloop"),
    "deferred": ("test_inloop", *SAMPLERS),
    "losses": (*LOSSES, "test_priors"),
    "lossbase": (*LOSSES, *MIXING, "test_priors"),
    "mixedlabels": (*MIXING, *LOSSES),
    "draws": ("test_draws", "test_augment", *MIXING, "test_auto_ops"),
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
