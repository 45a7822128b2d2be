"""Outcome: what an answer did with the text: found, taken from elsewhere, in no text, or "not there"."""

import re
from collections.abc import Sequence
from typing import Literal

from tenbin.rag.contexts import Context
from tenbin.rag.passages import plain

Outcome = Literal["reference", "needed", "other", "nowhere", "says_absent", "unparsed", "error"]
"""What the answer is, the first that holds:

error        no completion was got
unparsed     no answer could be taken from it
says_absent  it says that the text has no answer
reference    it holds a reference
needed       its words are in the needed passage, but it holds no reference
other        its words are in a distractor
nowhere      its words are in no passage of the text
"""
POLITE_END = re.compile(r"(です|でした|である|だ|ます|になります|となります)$")
ANSWER_START = re.compile(r"^(答え|回答|正解)は?")


def outcome(
    answer: str | None, context: Context, absent_phrases: Sequence[str], *, error: str | None = None
) -> Outcome:
    """Compare an answer with the text it was given, letters and digits only after NFKC.

    Words are compared, not meanings: an answer in other words than the text's is `nowhere`, though it may be
    right. So `nowhere` is an upper bound of what a model made up.
    """
    if error is not None:
        return "error"
    said = plain(answer or "")
    if not said:
        return "unparsed"
    if any(plain(phrase) in said for phrase in absent_phrases if plain(phrase)):
        return "says_absent"
    if context.needed:
        wanted = [text for reference in context.example.references if (text := plain(reference))]
        if any(text in said for text in wanted):
            return "reference"
    core = POLITE_END.sub("", ANSWER_START.sub("", said)) or said
    if context.needed and core in plain(context.needed):
        return "needed"
    if any(core in plain(other) for other in context.others):
        return "other"
    return "nowhere"
