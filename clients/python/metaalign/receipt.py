"""The receipt: what was applied to an answer, in the body, in headers and in the fingerprint."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["OverriddenEntry", "Receipt", "TemplateReference", "TierTokens"]


class _Model(BaseModel):
    # Readers tolerate what they do not know: a newer server may say more, and it stays readable in `model_extra`.
    model_config = ConfigDict(frozen=True, extra="allow")


class TemplateReference(_Model):
    """Which template turned the tiers into text; `sha256` is of its source, hexadecimal."""

    name: str
    version: str
    sha256: str


class OverriddenEntry(_Model):
    """A value that lost: it was not rendered."""

    dimension: str
    tier: str
    value: str
    kept: str
    by: str


class TierTokens(_Model):
    """Prompt tokens that each tier's text takes, without control tokens."""

    system_info: int
    user_info: int


class Receipt(_Model):
    """What the server applied. `applied` is true when at least one tier says something.

    `learned_examples` counts liked exchanges that a profile's feedback added to the User tier.
    """

    applied: bool
    spec_hash: str
    template: TemplateReference
    profiles: tuple[str, ...] = ()
    learned_examples: int = 0
    overridden: tuple[OverriddenEntry, ...] = ()
    tokens: TierTokens

    def headers(self) -> dict[str, str]:
        """The `x-metaalign-*` response headers; all values are ASCII of our own making."""
        headers = {
            "x-metaalign-applied": "true" if self.applied else "false",
            "x-metaalign-spec-hash": self.spec_hash,
            "x-metaalign-template": f"{self.template.name}/{self.template.version}",
            "x-metaalign-overridden": str(len(self.overridden)),
        }
        if self.profiles:
            headers["x-metaalign-profiles"] = ",".join(self.profiles)
        return headers

    def fingerprint(self, engine: str | None) -> str:
        """`system_fingerprint` with a short hash behind the engine's own, the part that survives most clients."""
        return f"{engine or 'metaalign'}-ma{self.spec_hash[:12]}"
