import pytest

from tenbin.generate.stopping import first_stop


@pytest.mark.parametrize(
    ("text", "place"),
    [("東京\n大阪", 2), ("\n東京\n大阪", 3), ("東京###x\n", 2), ("東京", None), (" \n ", None), ("", None)],
)
def test_white_space_before_the_first_character_stops_nothing(text, place):
    assert first_stop(text, ("\n", "###")) == place
