"""What all sections share."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of an experiment file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
