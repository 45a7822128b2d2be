"""[rag]: the study's questions asked inside long texts, to see what length and place do to the answers."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenbin.config_section import Section

ABSENT_ANSWER = "本文にありません"
ABSENT_PHRASES = (
    "本文にありません",
    "本文にはありません",
    "文章にありません",
    "文章にはありません",
    "資料にありません",
    "資料にはありません",
    "書かれていません",
    "書いてありません",
    "記載がありません",
    "記載はありません",
    "記載されていません",
    "記述がありません",
    "記述はありません",
    "言及されていません",
    "情報がありません",
    "情報はありません",
    "含まれていません",
    "わかりません",
    "分かりません",
    "答えられません",
    "回答できません",
    "該当なし",
)


class RagConfig(Section):
    """[rag]: lengths, depths and distractors."""

    lengths: list[Annotated[int, Field(ge=100)]] = Field(
        default=[500, 1000, 2000, 5000, 10000], min_length=1, max_length=20
    )
    """Characters of the whole text that a question is asked about."""
    depths: int = Field(default=5, ge=1, le=20)
    """Places of the needed passage, evenly from the beginning (0) to the end (1) of the text."""
    questions: int = Field(default=20, ge=1)
    """So many examples of the set that is reported, drawn with `seed`."""
    corpus: str | None = None
    """File or folder of texts that distract; the study's own passages without it."""
    corpus_column: str = "text"
    """Column of the corpus that holds the text."""
    distractors: Literal["near", "any"] = "near"
    """near: those most like the question (BM25) first; any: drawn with `seed`."""
    without_answer: bool = True
    """Also ask every question without the passage that answers it."""
    absent_answer: str = Field(default=ABSENT_ANSWER, min_length=1)
    """What the prompt tells the model to say where the text has no answer."""
    absent_phrases: list[Annotated[str, Field(min_length=1)]] = Field(default=list(ABSENT_PHRASES))
    """An answer that contains one of these, or `absent_answer`, says that the text has no answer."""
    template: str | None = None
    """Own prompt with the task's $fields and one $response; without it, one that asks for `absent_answer`."""
    study_template: bool = False
    """Ask with the study's own template: for models that were tuned on it. It may not tell the model what to
    say where the text has no answer."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """The study's limit without it."""
    seed: int = 0

    @model_validator(mode="after")
    def _agrees(self) -> "RagConfig":
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"lengths has the same value twice: {self.lengths}")
        if self.template is not None and self.study_template:
            raise ValueError("template and study_template exclude each other")
        return self

    @property
    def places(self) -> tuple[float, ...]:
        """The depths as fractions: 0 = the needed passage comes first, 1 = last."""
        if self.depths == 1:
            return (0.5,)
        return tuple(number / (self.depths - 1) for number in range(self.depths))
