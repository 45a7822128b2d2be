"""[grading]: the grades that people and judges may give, and how different ones count."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GradingConfig(BaseModel):
    """[grading]: of question banks."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    scale: list[Annotated[float, Field(ge=0)]] = Field(default=[0.0, 0.5, 1.0], min_length=2, max_length=21)
    """The allowed grades; the highest is full points, the others are shares of it."""
    disagreement: Literal["mean", "adjudicator"] = "mean"
    """Raters who differ: the mean of their grades, or that of one rater who settles it."""
    adjudicator: str | None = None
    """Name of the rater whose grade counts where others differ."""

    @model_validator(mode="after")
    def _agrees(self) -> "GradingConfig":
        if sorted(set(self.scale)) != sorted(self.scale) or max(self.scale) <= 0:
            raise ValueError(f"scale needs different grades and one above 0, not {self.scale}")
        if self.disagreement == "adjudicator" and not (self.adjudicator or "").strip():
            raise ValueError('disagreement = "adjudicator" needs adjudicator = "NAME"')
        if self.adjudicator is not None and self.disagreement != "adjudicator":
            raise ValueError('an adjudicator is only asked with disagreement = "adjudicator"')
        return self
