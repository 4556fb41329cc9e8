"""What every settings section shares: strictness, names, modes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from headgate.config.units import Whole

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""Names of workflows, resources and lanes: they become labels and URLs."""
TenantName = Annotated[str, Field(min_length=1, max_length=128)]
Names = Annotated[tuple[Name, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""One name or several."""
Count = Annotated[Whole, Field(ge=1)]


class Mode(StrEnum):
    """Whether a limit refuses, or only reports what it would have refused."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Settings(BaseModel):
    """The common strictness: frozen, no unknown keys, no silent coercion beyond the units."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
