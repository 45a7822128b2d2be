from tenbin.generate.hosted.width import Width


def fill(width):
    """Send as many as may go; their marks."""
    marks = []
    while width.has_room:
        marks.append(width.send())
    return marks


def test_the_first_goes_alone_then_all():
    width = Width(8)
    marks = fill(width)
    assert len(marks) == 1
    width.back(marks[0], refused=False)
    assert len(fill(width)) == 8


def test_one_burst_of_refusals_halves_once_and_answers_open_it_again():
    width = Width(8)
    width.back(fill(width)[0], refused=False)
    for mark in fill(width):
        width.back(mark, refused=True)
    marks = fill(width)
    assert len(marks) == 4
    for mark in marks:
        width.back(mark, refused=True)
    marks = fill(width)
    assert len(marks) == 2
    for _ in range(60):
        for mark in marks:
            width.back(mark, refused=False)
        marks = fill(width)
    assert len(marks) == 8


def test_one_call_may_always_go():
    width = Width(4)
    for _ in range(50):
        marks = fill(width)
        assert len(marks) == 1
        width.back(marks[0], refused=True)
