"""How many examples it takes to tell two systems apart, before they are graded."""

from math import ceil, sqrt

from scipy import stats

from tenbin.stats.results import Undefined


def examples_needed(
    difference: float, *, deviation: float, alpha: float = 0.05, power: float = 0.8
) -> int | Undefined:
    """Examples that both systems answer so that a paired test finds a mean difference of scores.

    n = ((z_{1-alpha/2} + z_power) s/d)² + z²_{1-alpha/2}/2 with s the standard deviation of the paired
    differences; the last term corrects for s being estimated (Guenther, Am. Stat. 35, 1981).
    d = 0.05, s = 0.4: 505 (502.3 + 1.9, rounded up).
    """
    if difference == 0:
        return Undefined("no number of examples shows a difference of 0")
    if deviation <= 0:
        return Undefined("the paired differences do not vary: the systems differ by a constant")
    z, z_power = _quantiles(alpha, power)
    return ceil(((z + z_power) * deviation / difference) ** 2 + z * z / 2)


def examples_needed_right_wrong(
    difference: float, *, discordance: float, alpha: float = 0.05, power: float = 0.8
) -> int | Undefined:
    """The same for right/wrong scores and McNemar's test, from the share of examples on which just one
    of the two systems is right.

    n = (z_{1-alpha/2} √q + z_power √(q - d²))² / d², q the discordance (Connor, Biometrics 43, 1987).
    d = 0.05, q = 0.2: 626.
    """
    if difference == 0:
        return Undefined("no number of examples shows a difference of 0")
    if not abs(difference) <= discordance <= 1:
        return Undefined(f"a difference of {difference} needs a discordance of {abs(difference)} to 1")
    z, z_power = _quantiles(alpha, power)
    reach = z * sqrt(discordance) + z_power * sqrt(discordance - difference**2)
    return ceil((reach / difference) ** 2)


def smallest_difference(
    n: int, *, deviation: float, alpha: float = 0.05, power: float = 0.8
) -> float | Undefined:
    """The mean difference of paired scores that n examples would show with this power:
    (z_{1-alpha/2} + z_power) s/√n."""
    if n < 2:
        return Undefined("two examples or more are needed")
    z, z_power = _quantiles(alpha, power)
    return (z + z_power) * deviation / sqrt(n)


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    assert 0 < alpha < 1, alpha
    assert 0 < power < 1, power
    return float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
