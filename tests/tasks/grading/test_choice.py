"""Which choice an answer names: by text, letter, number, kana; two are none."""

import pytest

from tenbin.tasks.grading.choice import find_choice, parse_choices, read_choice

LAW = parse_choices("取締役の選任\n会計監査人の解任\n監査役の解任\n金銭による剰余金の配当")
KANA = parse_choices("(ア) 東京\n(イ) 大阪\n(ウ) 大阪府")
WORDS = parse_choices("A だから  B しかも\nA もっとも  B なぜなら\nA もっとも  B そこで")
NUMBERS = parse_choices("10\n20\n100")


@pytest.mark.parametrize(
    "answer",
    [
        "監査役の解任",
        "　監査役の解任。\n",
        "3",
        "３",
        "③",
        "C",
        "ｃ",
        "(C)",
        "【C】",
        "ウ",
        "**C**",
        "C。",
        "Cです",
        "3番",
        "三番目の選択肢です",
        "3つ目",
        "選択肢3",
        "3. 監査役の解任",
        "C: 監査役の解任",
        "答えはC",
        "答え：3",
        "答えは、監査役の解任です。",
        "正解は「監査役の解任」である。",
        "Answer: (C)",
        "The answer is C.",
        "解答\nC",
        "会社法では監査役の解任が特別決議を必要とする。",
        "Aではなく、Cが正しい",
        "会計監査人の解任ではなく、監査役の解任",
        "取締役の選任は普通決議、会計監査人の解任も普通決議である。答え：C",
        "答えは3です。取締役の選任は普通決議で足りる。",
        "取締役の選任は普通決議である。よって、監査役の解任を選ぶ。",
        "監査役の解任\n\n取締役の選任ではない理由は次のとおり。金銭による剰余金の配当は…",
    ],
)
def test_the_third_choice_however_it_is_named(answer):
    assert read_choice(answer, LAW).extracted == "監査役の解任"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("わからない", "names no choice"),
        ("5", "names no choice"),
        ("取締役の選任、監査役の解任", "more than one choice in the whole answer: 1, 3"),
        ("AとC", "more than one"),
        ("1、3", "more than one"),
        ("1. 1000万円\n2. 1000万円\n3. 1000万円", "more than one"),
        ("選択肢は次のとおり。\n1. 5割\n2. 2割", "more than one"),
        ("答えはA、Cです", "more than one"),
        ("C 取締役の選任", "more than one"),
        ("答え：A。いや、答え：C", "announced answer: 1, 3"),
        ("(A)は誤り", "names no choice"),
        ("a dog", "names no choice"),
        ("Cookieを食べる", "names no choice"),
        ("1", None),
    ],
)
def test_none_or_several_are_unparsed(answer, why):
    found = read_choice(answer, LAW)
    if why is None:
        assert found.extracted == "取締役の選任"
    else:
        assert found.extracted is None
        assert why in found.why


def test_printed_labels_are_the_only_ones():
    assert [choice.label for choice in KANA.items] == ["ア", "イ", "ウ"]
    assert read_choice("イ", KANA).extracted == "大阪"
    assert read_choice("2", KANA).extracted is None
    assert read_choice("2番目", KANA).extracted == "大阪"
    assert read_choice("イ 大阪", KANA).extracted == "大阪"
    assert read_choice("ア 大阪", KANA).extracted is None


def test_a_longer_choice_is_not_the_shorter_one_in_it():
    assert read_choice("大阪府だ", KANA).extracted == "大阪府"


def test_letters_with_which_the_choices_begin_are_no_labels():
    assert read_choice("A もっとも、B そこで", WORDS).extracted == "A もっとも  B そこで"
    assert read_choice("A", WORDS).extracted is None
    assert read_choice("3", WORDS).extracted == "A もっとも  B そこで"


def test_numbers_as_choices():
    assert read_choice("10", NUMBERS).extracted == "10"
    assert read_choice("100です", NUMBERS).extracted == "100"
    assert read_choice("2", NUMBERS).extracted is None
    assert read_choice("1000", NUMBERS).extracted is None


@pytest.mark.parametrize("text", ["監査役の解任", "3", "C", "ウ", "監査役の解任。"])
def test_a_reference_is_found_by_text_or_label(text):
    assert find_choice(text, LAW) == 2


@pytest.mark.parametrize(
    "text",
    [
        "①東京\n②大阪",
        "1. 東京\n2. 大阪",
        "A) 東京\nB) 大阪",
        "(a) 東京\n(b) 大阪",
        "イ 東京\nロ 大阪",
        "東京\n\n 大阪",
    ],
)
def test_labels_are_taken_off_the_texts(text):
    assert [choice.text for choice in parse_choices(text).items] == ["東京", "大阪"]


def test_letters_that_are_no_sequence_are_text():
    assert [choice.label for choice in parse_choices("A 東京\nC 大阪").items] == [None, None]


@pytest.mark.parametrize("choices", [LAW, KANA, WORDS, NUMBERS], ids=["law", "kana", "words", "numbers"])
def test_what_was_extracted_is_read_again_as_the_same(choices):
    for choice in choices.items:
        assert read_choice(choice.text, choices).extracted == choice.text


def test_a_choice_of_nothing_but_signs_has_its_label():
    signs = parse_choices("A. **\nB. //\nC. is")
    assert [choice.label for choice in signs.items] == ["A", "B", "C"]
    assert find_choice("A", signs) == 0
    assert read_choice("答えはA", signs).extracted == "**"
