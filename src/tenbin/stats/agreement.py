"""Agreement of raters beyond chance: Cohen's, Fleiss's and weighted kappa, Krippendorff's alpha."""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenbin.stats.results import Agreement, Undefined

Weights = Literal["unweighted", "linear", "quadratic"]
Scale = Literal["nominal", "ordinal", "interval"]
Floats = NDArray[np.float64]


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    categories: Sequence[Hashable],
    *,
    weights: Weights = "unweighted",
) -> Agreement | Undefined:
    """Two raters of the same items: kappa = 1 - Σ w o / Σ w e.

    o is the observed share of a pair of categories, e the share expected from the two raters' own
    frequencies, w the disagreement: 1 off the diagonal, or |i - j|, or (i - j)² of the positions in
    `categories`, which gives their order (Cohen 1960, 1968). Undefined where both used one and the same
    category throughout. Grades (1, .5, 0) and (1, .5, .5): 0.5, quadratic 0.6667.

    Raises:
        ValueError: raters of different length, or a rating that is not among the categories.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} ratings of the same items")
    if not first:
        return Undefined("no items")
    position = {category: index for index, category in enumerate(categories)}
    unknown = [rating for rating in (*first, *second) if rating not in position]
    if unknown:
        raise ValueError(f"rating {unknown[0]!r} is not one of {list(categories)}")
    observed = np.zeros((len(categories), len(categories)))
    for a, b in zip(first, second, strict=True):
        observed[position[a], position[b]] += 1
    observed /= len(first)
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    distance = np.abs(np.subtract.outer(np.arange(len(categories)), np.arange(len(categories))))
    disagreement = {"unweighted": distance > 0, "linear": distance, "quadratic": distance**2}[weights]
    by_chance = float((disagreement * expected).sum())
    if by_chance == 0:
        return Undefined("both raters gave every item the same one category")
    value = 1 - float((disagreement * observed).sum()) / by_chance
    return Agreement(value=value, num_items=len(first), method=f"Cohen's kappa, {weights}")


def fleiss_kappa(ratings: Sequence[Sequence[Hashable]]) -> Agreement | Undefined:
    """Any number of raters, the same for each item: `ratings[item]` are the categories it was given.

    kappa = (P - Pe)/(1 - Pe), P the mean share of agreeing pairs of ratings of an item, Pe = Σ p_j² of
    the overall frequencies (Fleiss 1971).

    Raises:
        ValueError: items with different numbers of ratings (Krippendorff's alpha allows them).
    """
    if not ratings:
        return Undefined("no items")
    sizes = {len(item) for item in ratings}
    if len(sizes) > 1:
        raise ValueError(f"Fleiss's kappa needs as many ratings of each item, found {sorted(sizes)}")
    num_raters = sizes.pop()
    if num_raters < 2:
        return Undefined("one rating an item: nothing to agree with")
    categories = {rating: index for index, rating in enumerate(dict.fromkeys(r for i in ratings for r in i))}
    counts = np.zeros((len(ratings), len(categories)))
    for row, item in enumerate(ratings):
        for rating in item:
            counts[row, categories[rating]] += 1
    agreed = float(np.mean((counts * (counts - 1)).sum(axis=1) / (num_raters * (num_raters - 1))))
    by_chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    if by_chance == 1:
        return Undefined("every rating is the same category")
    value = (agreed - by_chance) / (1 - by_chance)
    return Agreement(value=value, num_items=len(ratings), method=f"Fleiss's kappa, {num_raters} raters")


def krippendorff_alpha(
    ratings: Sequence[Sequence[float | None]], *, scale: Scale = "nominal"
) -> Agreement | Undefined:
    """Any number of raters with gaps: `ratings[rater][item]`, None = not rated.

    alpha = 1 - Do/De over the coincidence matrix o_ck = Σ_items (ordered pairs c, k)/(m_item - 1), with
    the distance 1 (nominal), (c - k)² (interval) or, ordinal, the square of the number of ratings from
    c to k, half of those at the two ends (Krippendorff, Content Analysis, 2004, ch. 11). Items with one
    rating do not count. Undefined where no item was rated twice, or all ratings are the same.

    Raises:
        ValueError: raters with different numbers of items.
    """
    if len({len(rater) for rater in ratings}) > 1:
        raise ValueError("every rater needs one entry an item (None = not rated)")
    items = [[r for r in item if r is not None] for item in zip(*ratings, strict=True)]
    items = [item for item in items if len(item) > 1]
    if not items:
        return Undefined("no item was rated twice")
    values = np.unique(np.asarray([r for item in items for r in item], dtype=np.float64))
    if values.size == 1:
        return Undefined("every rating is the same")
    coincidences = np.zeros((values.size, values.size))
    for item in items:
        counts = np.bincount(np.searchsorted(values, item), minlength=values.size).astype(np.float64)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(item) - 1)
    totals = coincidences.sum(axis=0)
    n = float(totals.sum())
    expected = (np.outer(totals, totals) - np.diag(totals)) / (n - 1)
    distance = _distances(values, totals, scale)
    value = 1 - float((coincidences * distance).sum()) / float((expected * distance).sum())
    return Agreement(value=value, num_items=len(items), method=f"Krippendorff's alpha, {scale}")


def _distances(values: Floats, totals: Floats, scale: Scale) -> Floats:
    """Squared distance of each pair of values, (V, V)."""
    if scale == "nominal":
        return np.asarray(values[:, None] != values[None, :], dtype=np.float64)
    if scale == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    # Σ_{g=c..k} n_g - (n_c + n_k)/2 is the difference of the mid-ranks of c and k.
    middles = np.cumsum(totals) - totals / 2
    return np.asarray((middles[:, None] - middles[None, :]) ** 2)
