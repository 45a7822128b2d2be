"""Where a stop text ends an answer: one rule for local and hosted models."""

from collections.abc import Sequence


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop text begins. White space before the answer's first character does not stop it.

    >>> first_stop("\\n東京\\n大阪", ("\\n",))
    3
    """
    head = len(text) - len(text.lstrip())
    places = [place for s in stop if (place := text.find(s, head)) >= 0]
    return min(places) if places else None
