"""The receipt: what was applied to an answer. It is in the body, in headers and in the fingerprint."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "OverriddenEntry",
    "Receipt",
    "SteeringApplied",
    "StrengthApplied",
    "TemplateReference",
    "TierTokens",
    "VerifiedAnswer",
    "VerifiedCheck",
]


class _Model(BaseModel):
    # Readers tolerate unknown fields: a newer server may add some, and they stay readable in `model_extra`.
    model_config = ConfigDict(frozen=True, extra="allow")


class TemplateReference(_Model):
    """The template that rendered the tiers; `sha256` is the hash of its source, in hexadecimal."""

    name: str
    version: str
    sha256: str


class OverriddenEntry(_Model):
    """A value that was overridden and not rendered."""

    dimension: str
    tier: str
    value: str
    kept: str
    by: str


class TierTokens(_Model):
    """Prompt tokens of each tier's text, without control tokens."""

    system_info: int
    user_info: int


class VerifiedCheck(_Model):
    """What one check says of an answer, and why."""

    name: str
    passed: bool
    why: str


class VerifiedAnswer(_Model):
    """What `preferences.verify` found in one choice of an answer.

    `passed` is whether every check passed, and None if there was nothing to check: `verify: true` with preferences that
    imply no check, such as free text.
    """

    index: int
    passed: bool | None
    checks: tuple[VerifiedCheck, ...]


class StrengthApplied(_Model):
    """How strongly each tier acted; 1 is as trained."""

    system: float
    user: float


class SteeringApplied(_Model):
    """How the answer was steered.

    `branches` is how many prompts drew each token together; `blend` the weights of the User tiers, as given. `score`
    is that of the answer that was chosen among `candidates`: how much likelier each of its tokens is with the
    preferences than without, as a mean of log probabilities in nats. In a stream it is in the first event that has one.
    """

    strength: StrengthApplied
    branches: int
    blend: tuple[float, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    candidates: int | None = Field(default=None, exclude_if=lambda value: value is None)
    score: float | None = Field(default=None, exclude_if=lambda value: value is None)


class Receipt(_Model):
    """What the server applied. `applied` is true if at least one tier is not empty.

    `learned_examples` counts liked exchanges that feedback on a profile added to the User tier. `verified` is there if
    `preferences.verify` asks for it, once the answer is complete: in a stream on one of the last events. `steering` is
    there if the preferences hold a strength other than 1, a blend or candidates.
    """

    applied: bool
    spec_hash: str
    template: TemplateReference
    profiles: tuple[str, ...] = ()
    learned_examples: int = 0
    overridden: tuple[OverriddenEntry, ...] = ()
    tokens: TierTokens
    steering: SteeringApplied | None = Field(default=None, exclude_if=lambda value: value is None)
    verified: tuple[VerifiedAnswer, ...] | None = Field(default=None, exclude_if=lambda value: value is None)

    def headers(self) -> dict[str, str]:
        """Return the `x-metaalign-*` response headers; all values are ASCII that we generate."""
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
        """Return the engine's `system_fingerprint` plus a short hash; most clients pass this field through."""
        return f"{engine or 'metaalign'}-ma{self.spec_hash[:12]}"
