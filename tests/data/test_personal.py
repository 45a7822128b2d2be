"""Personal data are found in the forms people write, and never shown whole."""

import pytest

from tenbin.data.personal import find_personal, is_card_number, is_my_number


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("連絡先は taro.yamada@example.co.jp です", "e-mail address"),
        ("ｔａｒｏ＠ｅｘａｍｐｌｅ．ｊｐ", "e-mail address"),
        ("電話は03-1234-5678まで", "telephone number"),
        ("０９０−１２３４−５６７８", "telephone number"),
        ("09012345678", "telephone number"),
        ("(03)1234-5678", "telephone number"),
        ("03(1234)5678", "telephone number"),
        ("0120-444-444", "telephone number"),
        ("+81-90-1234-5678", "telephone number"),
        ("カードは4111 1111 1111 1111です", "card number"),
        ("3782 822463 10005", "card number"),
        ("番号は1234-5678-9018", "My Number"),
        ("１２３４５６７８９０１８", "My Number"),
    ],
)
def test_found(text: str, kind: str) -> None:
    (find,) = find_personal(text)
    assert find.kind == kind
    assert find.masked.count("*") >= len(find.masked) - 4


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-31から2024-02-28まで",
        "1,234,567,890,123円",
        "192.168.100.100",
        "4111 1111 1111 1112",
        "123456789012",
        "第3-1234-5678号",
        "@username と書く",
        "売上は0000000000000000",
        "3-0000 0012 3457",
        "注文 2024010112345",
    ],
)
def test_not_found(text: str) -> None:
    assert list(find_personal(text)) == []


def test_check_digits_catch_every_single_wrong_digit() -> None:
    for number, check in (("4111111111111111", is_card_number), ("123456789018", is_my_number)):
        assert check(number)
        for position in range(1, len(number)):
            wrong = number[:position] + str((int(number[position]) + 1) % 10) + number[position + 1 :]
            assert not check(wrong), wrong
