"""Coverage of the 95 % intervals and size of the 5 % tests, by simulation.

    python bench/coverage.py [--repeats 2000] [--seed 0]

One row a kind of score and n: the share of intervals that hold the true score, mean and lowest over true
scores 0.1 ... 0.9; then the share of tests that reject although the systems do not differ.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tenbin import stats

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, float, int], Floats]
TRUE_SCORES = tuple(round(0.1 * k, 1) for k in range(1, 10))
SIZES = (13, 50, 500)


def right_wrong(rng: np.random.Generator, mean: float, n: int) -> Floats:
    """0 or 1."""
    return (rng.random(n) < mean).astype(np.float64)


def grades(rng: np.random.Generator, mean: float, n: int) -> Floats:
    """0, 0.5 or 1; the half right ones are as many as the mean allows, at most 40 %."""
    half = min(0.4, mean, 1 - mean)
    right = mean - half / 2
    return rng.choice([0.0, 0.5, 1.0], size=n, p=[1 - right - half, half, right])


def uniform_like(rng: np.random.Generator, mean: float, n: int) -> Floats:
    """Beta with a + b = 2: at mean 0.5 the uniform distribution."""
    return rng.beta(2 * mean, 2 * (1 - mean), size=n)


def rouge_like(rng: np.random.Generator, mean: float, n: int) -> Floats:
    """Beta with a + b = 10: scores that stay near their mean."""
    return rng.beta(10 * mean, 10 * (1 - mean), size=n)


def f1_like(rng: np.random.Generator, mean: float, n: int) -> Floats:
    """Half of the scores are exactly 0 or 1, the rest between: what F1 of short answers looks like."""
    kind = rng.choice(3, size=n, p=[(1 - mean) / 2, 0.5, mean / 2])
    return np.where(kind == 1, rng.beta(4 * mean, 4 * (1 - mean), size=n), (kind == 2).astype(np.float64))


DRAWS: dict[str, tuple[Draw, str]] = {
    "right/wrong": (right_wrong, "proportion"),
    "0/.5/1": (grades, "mean"),
    "uniform-like": (uniform_like, "mean"),
    "ROUGE-like": (rouge_like, "mean"),
    "F1-like": (f1_like, "mean"),
}


def coverage(name: str, n: int, mean: float, repeats: int, rng: np.random.Generator) -> float:
    """Share of the intervals of `repeats` samples that hold the true mean."""
    draw, kind = DRAWS[name]
    held = 0
    for _ in range(repeats):
        found = stats.estimate(draw(rng, mean, n).tolist(), kind=kind)  # type: ignore[arg-type]
        assert not isinstance(found, stats.Undefined)
        held += found.low - 1e-12 <= mean <= found.high + 1e-12
    return held / repeats


def clustered_coverage(n: int, mean: float, repeats: int, rng: np.random.Generator) -> float:
    """The same for right/wrong scores in groups of five whose members are alike (correlation 0.3)."""
    held = 0
    for _ in range(repeats):
        chance = rng.beta(mean * 7 / 3, (1 - mean) * 7 / 3, size=n // 5).repeat(5)
        values = (rng.random(chance.size) < chance).astype(np.float64)
        names = [str(k // 5) for k in range(chance.size)]
        found = stats.estimate(values.tolist(), kind="proportion", groups=names)
        assert not isinstance(found, stats.Undefined)
        held += found.low - 1e-12 <= mean <= found.high + 1e-12
    return held / repeats


def p_values(name: str, n: int, rng: np.random.Generator) -> float:
    """p of two systems drawn alike (so that they do not differ), by the test that fits the scores."""
    shared = DRAWS[name][0](rng, 0.6, n)
    swap = rng.random(n) < 0.4
    first = np.where(swap, DRAWS[name][0](rng, 0.6, n), shared)
    second = np.where(swap, DRAWS[name][0](rng, 0.6, n), shared)
    if name == "right/wrong":
        return stats.mcnemar(int((first > second).sum()), int((first < second).sum())).p_value
    found = stats.sign_flip(first, second, seed=rng, num_resamples=999)
    assert not isinstance(found, stats.Undefined)
    return found.p_value


def rows(repeats: int, seed: int) -> Iterator[str]:
    """The two tables, line by line."""
    yield f"{'scores':<14}{'n':>5}  {'mean':>6}  {'lowest':>6}"
    for name in DRAWS:
        for n in SIZES:
            rng = np.random.default_rng(seed)
            shares = [coverage(name, n, mean, repeats, rng) for mean in TRUE_SCORES]
            yield f"{name:<14}{n:>5}  {np.mean(shares):>6.1%}  {min(shares):>6.1%}"
    for n in (50, 500):
        rng = np.random.default_rng(seed)
        shares = [clustered_coverage(n, mean, repeats, rng) for mean in TRUE_SCORES]
        yield f"{'groups of 5':<14}{n:>5}  {np.mean(shares):>6.1%}  {min(shares):>6.1%}"
    yield ""
    yield f"{'scores':<14}{'n':>5}  rejected at 5 %"
    for name in ("right/wrong", "0/.5/1", "F1-like"):
        for n in SIZES:
            rng = np.random.default_rng(seed)
            rejected = np.mean([p_values(name, n, rng) <= 0.05 for _ in range(repeats)])
            yield f"{name:<14}{n:>5}  {rejected:>6.1%}"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for line in rows(options.repeats, options.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
