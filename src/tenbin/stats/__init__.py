"""Intervals, tests, agreement and power: every random choice takes a seed; Undefined is never 0."""

from tenbin.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from tenbin.stats.bootstrap import bootstrap, bootstrap_by_index, mean_of_values
from tenbin.stats.intervals import estimate, mean_interval, standard_error, t_interval, wilson
from tenbin.stats.paired import holm, mcnemar, paired_bootstrap, paired_permutation, sign_flip
from tenbin.stats.power import examples_needed, examples_needed_right_wrong, smallest_difference
from tenbin.stats.results import Agreement, TestResult, Undefined

__all__ = [
    "Agreement",
    "TestResult",
    "Undefined",
    "bootstrap",
    "bootstrap_by_index",
    "cohen_kappa",
    "estimate",
    "examples_needed",
    "examples_needed_right_wrong",
    "fleiss_kappa",
    "holm",
    "krippendorff_alpha",
    "mcnemar",
    "mean_interval",
    "mean_of_values",
    "paired_bootstrap",
    "paired_permutation",
    "sign_flip",
    "smallest_difference",
    "standard_error",
    "t_interval",
    "wilson",
]
