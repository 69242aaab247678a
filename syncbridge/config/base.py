"""What every part of the model is made of: a frozen block of known keys, and the fields that several parts have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from syncbridge.config.values import Address, Url


class Model(BaseModel):
    """A block of sync.yaml: unknown keys are refused, nothing changes after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _off(value: Any) -> Any:
    return None if value in ("off", False) else Address.parse(value)


UrlField = Annotated[Url, BeforeValidator(Url.parse)]
#: An address, or `off`.
OptionalAddressField = Annotated[Address | None, BeforeValidator(_off)]
