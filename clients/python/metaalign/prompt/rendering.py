"""Renders a resolved specification as the text of the two Meta-Prompt tiers (arXiv 2410.14184, three-tier template).

The wording is fixed: training and serving write their Meta-Prompts with the same function. The chat template
(`chat_template.jinja`) decides where the tiers go in the prompt.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from metaalign.dimensions import sentence
from metaalign.prompt.resolution import Resolution, Tier

__all__ = ["MetaPrompt", "fold", "render"]


@dataclass(frozen=True, slots=True)
class MetaPrompt:
    """The text of both tiers (either may be empty) and its hash.

    Attributes:
        system_info: Text of System Info.
        user_info: Text of User Info.
        spec_hash: SHA-256 of both texts, in hexadecimal; equal texts have equal hashes on every machine.
    """

    system_info: str
    user_info: str
    spec_hash: str

    @property
    def empty(self) -> bool:
        """Whether both tiers are empty."""
        return not (self.system_info or self.user_info)

    def messages(self) -> list[dict[str, str]]:
        """Return the tiers as leading messages, at most one of each role."""
        tiers = (("system", self.system_info), ("user_info", self.user_info))
        return [{"role": role, "content": text} for role, text in tiers if text]


def _lines(tier: Tier) -> list[str]:
    lines: list[str] = []
    if tier.priorities:
        lines.append(f"Priorities, most important first: {', '.join(tier.priorities)}.")
    lines.extend(sentence(name, value) for name, value in tier.attributes)
    return lines


def _tier_text(tier: Tier) -> str:
    blocks = list(tier.texts)
    for example in tier.examples:
        parts = [f"Question: {example.query}"]
        if example.preferred is not None:
            parts.append(f"Preferred answer: {example.preferred}")
        if example.rejected is not None:
            parts.append(f"Rejected answer: {example.rejected}")
        blocks.append("\n".join(parts))
    if lines := _lines(tier):
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def render(resolution: Resolution) -> MetaPrompt:
    """Render both tiers. A pure function: equal resolutions give equal bytes."""
    system_info, user_info = _tier_text(resolution.system), _tier_text(resolution.user)
    canonical = json.dumps(
        {"system_info": system_info, "user_info": user_info, "v": 1}, ensure_ascii=True, sort_keys=True
    )
    return MetaPrompt(system_info, user_info, hashlib.sha256(canonical.encode("ascii")).hexdigest())


FOLD_HEADING = "About the user"
FOLD_RULE = (
    "Serve the user's preferences as far as the instructions above allow; where they disagree, the instructions"
    " above win. Facts stay facts whatever the user prefers."
)


def fold(meta_prompt: MetaPrompt) -> str:
    """Combine both tiers into one system text, for checkpoints whose template has no `user_info` role.

    The wording is documented in `docs/architecture.md`. It is a fallback; Meta-aligned models are not trained on it.
    """
    if not meta_prompt.user_info:
        return meta_prompt.system_info
    user = f"## {FOLD_HEADING}\n{meta_prompt.user_info}\n\n{FOLD_RULE}"
    return f"{meta_prompt.system_info}\n\n{user}" if meta_prompt.system_info else user
