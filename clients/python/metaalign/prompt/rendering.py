"""A resolved specification as the words of the two Meta-Prompt tiers (arXiv 2410.14184, three-tier template).

The words are fixed: training writes its Meta-Prompts with this function, the server serves with it.
Where the tiers go in the prompt is the chat template's matter (`chat_template.jinja`).
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
    """The text of both tiers (either may be empty) and the hash that names it.

    Attributes:
        system_info: Text of System Info.
        user_info: Text of User Info.
        spec_hash: SHA-256, hexadecimal, of both texts; equal texts have equal hashes on every machine.
    """

    system_info: str
    user_info: str
    spec_hash: str

    @property
    def empty(self) -> bool:
        """Whether neither tier says anything."""
        return not (self.system_info or self.user_info)

    def messages(self) -> list[dict[str, str]]:
        """The tiers as leading messages, at most one of each role."""
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
    """Write both tiers. Pure: equal resolutions give equal bytes."""
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
    """Both tiers as one system text, for checkpoints whose template knows no `user_info` role.

    The wording is documented in `docs/architecture.md`; it is a fallback, not what a Meta-aligned model was
    trained on.
    """
    if not meta_prompt.user_info:
        return meta_prompt.system_info
    user = f"## {FOLD_HEADING}\n{meta_prompt.user_info}\n\n{FOLD_RULE}"
    return f"{meta_prompt.system_info}\n\n{user}" if meta_prompt.system_info else user
