import pytest

from tenbin.stats import Undefined, cohen_kappa, fleiss_kappa, krippendorff_alpha

GRADES = (0, 0.5, 1)


@pytest.mark.parametrize(
    ("weights", "expected"), [("unweighted", 0.5), ("linear", 4 / 7), ("quadratic", 2 / 3)]
)
def test_cohen(weights, expected):
    assert cohen_kappa([1, 0.5, 0], [1, 0.5, 0.5], GRADES, weights=weights).value == pytest.approx(expected)


def test_cohen_edges():
    assert isinstance(cohen_kappa([1, 1], [1, 1], GRADES), Undefined)
    assert isinstance(cohen_kappa([], [], GRADES), Undefined)
    with pytest.raises(ValueError, match="2 is not"):
        cohen_kappa([2], [1], GRADES)
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa([1], [1, 0], GRADES)


def test_fleiss_by_hand():
    # P = (1 + 1/3 + 1/3)/3 = 5/9; shares 6/9 and 3/9: Pe = 5/9. So the raters agree as chance would.
    assert fleiss_kappa(["aaa", "aab", "abb"]).value == pytest.approx(0.0)
    # P = (1 + 1 + 1/3)/3 = 7/9; shares 5/9 and 4/9: Pe = 41/81; (63 - 41)/(81 - 41)
    assert fleiss_kappa(["aaa", "bbb", "aab"]).value == pytest.approx(22 / 40)
    assert isinstance(fleiss_kappa(["aa", "aa"]), Undefined)
    assert isinstance(fleiss_kappa(["a", "b"]), Undefined)
    with pytest.raises(ValueError, match="as many ratings"):
        fleiss_kappa(["aa", "aab"])


@pytest.mark.parametrize(
    ("scale", "expected"), [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107)]
)
def test_krippendorff_textbook_example(scale, expected):
    # Krippendorff, Computing alpha-reliability (2011), section C: four observers, twelve units, gaps.
    n = None
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
        [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
    ]
    found = krippendorff_alpha(ratings, scale=scale)
    assert found.value == pytest.approx(expected, abs=1e-3)
    assert found.num_items == 11


def test_krippendorff_edges():
    assert isinstance(krippendorff_alpha([[1, None], [None, 1]]), Undefined)
    assert isinstance(krippendorff_alpha([[1, 1], [1, 1]]), Undefined)
    with pytest.raises(ValueError, match="one entry an item"):
        krippendorff_alpha([[1], [1, 2]])
