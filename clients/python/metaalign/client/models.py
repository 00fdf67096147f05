"""What the server answers, as objects. A newer server may send more: unknown fields stay readable in `model_extra`.

Each class has the fields of its schema in `clients/openapi.json`, which the tests compare.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from metaalign.receipt import Receipt

__all__ = [
    "AlignAnswer",
    "AuditEntry",
    "AuditPage",
    "Change",
    "ChatAnswer",
    "ChatChoice",
    "ChatMessage",
    "Erasure",
    "FeedbackStored",
    "ImportReport",
    "Key",
    "KeyPage",
    "Label",
    "LabelTarget",
    "Learning",
    "Limits",
    "ModelList",
    "NewKey",
    "Page",
    "Profile",
    "ProfileDiff",
    "ProfilePage",
    "ProfileVersion",
    "ProfilesDocument",
    "RenderAnswer",
    "RenderedBranch",
    "ServerVersion",
    "State",
    "Tenant",
    "TenantPage",
    "Tokens",
    "VersionPage",
]


_Item = TypeVar("_Item")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class Page(_Model, Generic[_Item]):
    """A part of a list, and whether there is more of it."""

    data: list[_Item]
    has_more: bool


class AlignAnswer(_Model):
    """The answer to one query; `metaalign` is the receipt, None without preferences."""

    id: str
    model: str
    text: str
    finish_reason: str | None
    metaalign: Receipt | None
    usage: dict[str, Any]


class ChatMessage(_Model):
    """The message of an answer; `tool_calls` and more are in `model_extra`."""

    role: str
    content: str | None = None


class ChatChoice(_Model):
    """One answer of several."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None


class ChatAnswer(_Model):
    """An answer in a dialogue, in OpenAI's form; `metaalign` is the receipt, None without preferences."""

    id: str
    model: str
    choices: list[ChatChoice]
    usage: dict[str, Any] | None = None
    metaalign: Receipt | None = None

    @property
    def text(self) -> str:
        """The first answer's text; empty if it only calls tools."""
        return self.choices[0].message.content or ""


class Tokens(_Model):
    """A prompt's token ids; `max_model_len` is how many the model can take, its answer included."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None
    metaalign: Receipt | None = None


class RenderedBranch(_Model):
    """One of the prompts that draw a steered answer; its logits are multiplied by `coefficient`."""

    coefficient: float
    system_info: str
    user_info: str
    prompt_token_ids: list[int]


class RenderAnswer(_Model):
    """What the model would be told: both tiers, the prompt, its token ids; `branches` if several draw the answer."""

    system_info: str
    user_info: str
    prompt: str
    prompt_token_ids: list[int]
    tokens: int
    branches: list[RenderedBranch] = []
    metaalign: Receipt


class ModelList(_Model):
    """The served models; each entry has an `id`."""

    data: list[dict[str, Any]]


class LabelTarget(_Model):
    """A version that a label points to; weights add up to what they add up to."""

    version: int
    weight: int


class Label(_Model):
    """A label: a name that moves between versions."""

    versions: list[LabelTarget]
    protected: bool
    updated_at: datetime


class Learning(_Model):
    """How many of the most recently liked exchanges become examples, and whose: `user` or `profile`."""

    examples: int = 0
    scope: str = "user"


class Profile(_Model):
    """A profile without its versions."""

    name: str
    latest: int
    labels: dict[str, Label]
    archived: bool
    learn: Learning
    shared: bool = False
    etag: str
    created_at: datetime
    updated_at: datetime


class ProfilePage(Page[Profile]):
    """A page of profiles."""


class ProfileVersion(_Model):
    """One version; it never changes."""

    profile: str
    version: int
    preferences: Any
    sha256: str
    note: str
    created_at: datetime
    created_by: str


class VersionPage(Page[ProfileVersion]):
    """A page of versions, newest first."""


class Change(_Model):
    """One path that differs; a side that lacks the path has None."""

    path: str
    from_: Any = Field(None, alias="from")
    to: Any = None


class ProfileDiff(_Model):
    """The changes from one version to another."""

    profile: str
    from_: int = Field(alias="from")
    to: int
    changes: list[Change]


class ProfilesDocument(_Model):
    """Profiles with their versions and labels, as `export` gives and `import_` takes them."""

    profiles: list[dict[str, Any]]


class ImportReport(_Model):
    """What an import did: names of new profiles, of those with new versions, and of those that were there already."""

    created: list[str] = []
    extended: list[str] = []
    unchanged: list[str] = []


class FeedbackStored(_Model):
    """Feedback that was stored."""

    id: str
    recorded: bool


class Erasure(_Model):
    """The number of deleted rows."""

    exchanges: int
    feedback: int
    responses: int = 0


class Limits(_Model):
    """Limits of a key or a tenant; None means no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    tokens_per_day: int | None = None


class Tenant(_Model):
    """One tenant."""

    id: str
    name: str
    policy: Any = None
    limits: Limits
    share_cache: bool
    share_policy: bool = False
    disabled: bool
    etag: str
    created_at: datetime


class TenantPage(Page[Tenant]):
    """A page of tenants."""


class Key(_Model):
    """One key, without its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    limits: Limits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKey(Key):
    """A newly created key; `key` is shown only once."""

    key: str


class KeyPage(Page[Key]):
    """A page of keys."""


class AuditEntry(_Model):
    """One change, with hashes of the state before and after; never the content."""

    id: int
    at: datetime
    tenant_id: str
    actor: str
    action: str
    object: str
    before: str | None
    after: str | None


class AuditPage(Page[AuditEntry]):
    """A page of the audit log, newest first."""


class State(_Model):
    """Whether a server is alive or ready."""

    status: str


class ServerVersion(_Model):
    """What the server is made of: its version, vLLM's, and the template."""

    version: str
    vllm: str
    template: Any
