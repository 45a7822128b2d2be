"""Section: the base of every table of the study file."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the study file: unknown keys are errors, values are not coerced between kinds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
