"""Units of number answers: their names in Japanese and English, what they measure, and how they convert."""

from fractions import Fraction

from tenbin.tasks.normalize import nfkc

RATIO = "ratio"
# dimension -> (factor to the first one, names). Names are NFKC and lower case: ㎏ is kg, ％ is %.
CONVERTIBLE: dict[str, tuple[tuple[str, str], ...]] = {
    RATIO: (("1/100", "% パーセント percent ﹪"), ("1/10", "割 わり"), ("1/1000", "‰ パーミル")),
    "length": (
        ("1", "m メートル"),
        ("1000", "km キロメートル"),
        ("1/100", "cm センチメートル センチ"),
        ("1/1000", "mm ミリメートル ミリ"),
    ),
    "mass": (
        ("1", "g グラム"),
        ("1000", "kg キログラム キロ"),
        ("1/1000", "mg ミリグラム"),
        ("1000000", "t トン"),
    ),
    "time": (
        ("1", "秒 秒間 s sec seconds"),
        ("60", "分 分間 min minutes"),
        ("3600", "時間 h hours hour"),
        ("86400", "日 日間 days day"),
        ("604800", "週間 週 weeks"),
    ),
    "volume": (
        ("1", "l リットル ℓ"),
        ("1/1000", "ml ミリリットル cc"),
        ("1/10", "dl デシリットル"),
        ("1000", "m3 立方メートル"),
        ("1/1000", "cm3 立方センチメートル"),
    ),
    "area": (
        ("1", "m2 平方メートル 平米"),
        ("1/10000", "cm2 平方センチメートル"),
        ("1000000", "km2 平方キロメートル"),
        ("10000", "ha ヘクタール"),
    ),
    "months": (
        ("1", "か月 ヶ月 カ月 ヵ月 ケ月 箇月 か月間 ヶ月間 months month"),
        ("12", "年 年間 years year"),
    ),
}
# Each line is one unit under several names.
SAME = (
    "円 ¥ yen jpy 圓",
    "ドル $ usd dollars dollar 米ドル",
    "ユーロ € eur euro",
    "人 名 人数",
    "個 こ コ ケ つ ヶ",
    "歳 才",
    "回 度 回数",
    "°c ℃ 度c 摂氏",
    "本",
    "枚",
    "台",
    "冊",
    "通り",
    "倍",
    "件",
    "社",
    "点",
    "階",
    "位",
    "番",
    "問",
    "字 文字",
    "ポイント pt",
    "km/h 時速",
    "条",
    "項",
    "章",
    "ページ p 頁",
)


def unit_name(text: str) -> str:
    """A unit as the tables have it: NFKC, lower case, no white space."""
    return "".join(nfkc(text).lower().split())


UNITS: dict[str, tuple[str, Fraction]] = {
    unit_name(name): (dimension, Fraction(factor))
    for dimension, units in CONVERTIBLE.items()
    for factor, names in units
    for name in names.split()
} | {unit_name(name): (line.split()[0], Fraction(1)) for line in SAME for name in line.split()}
"""Name -> (what it measures, factor to that dimension's first unit)."""


def unit_names(units: str) -> list[str]:
    """The names of a question's unit, alternatives apart by | or 、 or a line break."""
    return [unit_name(n) for n in units.replace("、", "|").replace("\n", "|").split("|") if n.strip()]


def with_own(units: str) -> dict[str, tuple[str, Fraction]]:
    """The table with the names of a question's own unit.

    The names of one question are one unit; if one of them is known, the others are new names of it.
    """
    names = unit_names(units)
    known = next((UNITS[name] for name in names if name in UNITS), None)
    own = known or ((names[0], Fraction(1)) if names else None)
    return UNITS if own is None else {**UNITS, **{name: UNITS.get(name, own) for name in names}}
