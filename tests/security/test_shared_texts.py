"""Tenants share the prefix cache's blocks of what the operator wrote for all of them, and not one token more."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from metaalign_server.engine.generation import equal_at_the_start
from metaalign_server.engine.tiered_salt import block_salt, tiered_salt
from tests.security.world import World

BLOCK = 32
"""Tokens of a block of the prefix cache, on CPU."""
_NUMBERS = count()


def words(seed: int, number: int = 60) -> str:
    """A text that nobody else has sent."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefgh", k=5)) for _ in range(number))


@pytest.fixture
def policy() -> dict[str, Any]:
    return {"info": words(next(_NUMBERS), 120)}


def tenant(world: World, policy: dict[str, Any] | None, *, share: bool = True) -> str:
    """A new tenant with a key for everything but `admin`."""
    name = f"shares-{next(_NUMBERS)}"
    body = {"name": name, "policy": policy, "share_policy": share}
    made = world.client("operator").post("/v1/admin/tenants", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["share_policy"] is share
    world.keys[name] = world.make_key(name, "inference", "system", "profiles:read", "profiles:write")["key"]
    return name


@pytest.fixture
def tenants(world: World, policy: dict[str, Any]) -> Sequence[str]:
    return [tenant(world, policy) for _ in range(2)]


def body_of(path: str, text: str) -> dict[str, Any]:
    given: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
    if path == "/v1/completions":
        given = {"prompt": text}
    elif path == "/v1/responses":
        given = {"input": text, "max_tokens": None, "max_output_tokens": 1}
    elif path == "/v1/align":
        given = {"query": text}
    return given


def used(world: World, who: str, path: str = "/v1/chat/completions", **changes: Any) -> tuple[int, int, int]:
    """Tokens of the prompt, of those the ones that were cached, and of System Info with its two marks."""
    answer = world.ask(who, path, **changes)
    assert answer.status_code == 200, answer.text
    usage, receipt = answer.json()["usage"], answer.json()["metaalign"]
    if path == "/v1/responses":
        prompt, cached = usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
    elif path == "/v1/messages":
        cached = usage.get("cache_read_input_tokens") or 0
        prompt = usage["input_tokens"] + usage["cache_creation_input_tokens"] + cached
    else:
        details = usage["prompt_tokens_details"] or {"cached_tokens": 0}  # beam search does not tell
        prompt, cached = usage["prompt_tokens"], details["cached_tokens"]
    return prompt, cached, receipt["tokens"]["system_info"] + 2


def whole_blocks(tokens: int) -> int:
    return tokens // BLOCK * BLOCK


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/align"]
)
def test_only_the_policy_is_shared(world: World, tenants: Sequence[str], path: str) -> None:
    """On every route: another tenant's identical request finds the policy's blocks, and nothing of the rest."""
    first, second = tenants
    body = body_of(path, words(next(_NUMBERS)))
    body["preferences"] = {"user": words(next(_NUMBERS))}
    prompt, cached, system = used(world, first, path, **body)
    assert cached == 0
    assert prompt > system + 2 * BLOCK
    assert used(world, first, path, **body)[1] >= whole_blocks(prompt - 1)
    assert used(world, second, path, **body)[1] == whole_blocks(system)
    assert used(world, second, path, **body)[1] >= whole_blocks(prompt - 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"preferences": {"user": {"attributes": {"tone": "pirate"}}}},
        {"preferences": {"system": {"info": words(-1)}}},
        {
            "preferences": {
                "system": {"attributes": {"tone": "pirate", "format": "bullets"}, "priorities": ["safety"]}
            }
        },
        {"preferences": {"user": {"examples": [{"query": words(-2), "preferred": words(-3)}]}}},
        {"messages": [{"role": "system", "content": words(-4)}, {"role": "user", "content": words(-5)}]},
        {"messages": [{"role": "user_info", "content": words(-6)}, {"role": "user", "content": words(-7)}]},
    ],
)
def test_whatever_a_tenant_adds_is_its_own(
    world: World, policy: dict[str, Any], tenants: Sequence[str], changes: dict[str, Any]
) -> None:
    """Also what goes into the System tier, after the policy."""
    first, second = tenants
    alone = used(world, first, messages=[{"role": "user", "content": "hi"}])[2] - 1  # without its end
    said = {"messages": [{"role": "user", "content": words(next(_NUMBERS))}]} | changes
    prompt, cached, _ = used(world, first, **said)
    assert whole_blocks(alone - BLOCK) <= cached <= alone
    assert used(world, first, **said)[1] >= whole_blocks(prompt - 1) > alone
    assert used(world, second, **said)[1] <= alone


@pytest.mark.parametrize(
    "changes", [{"n": 3, "temperature": 1}, {"use_beam_search": True, "n": 2, "max_tokens": 2}]
)
def test_beams_and_choices(world: World, tenants: Sequence[str], changes: dict[str, Any]) -> None:
    """They make several sequences of one prompt."""
    first, second = tenants
    said = body_of("", words(next(_NUMBERS)))
    system = used(world, first, **said | changes)[2]
    assert used(world, second, **said)[1] == whole_blocks(system)


def test_who_shares_nothing(world: World, policy: dict[str, Any], tenants: Sequence[str]) -> None:
    """A tenant with the same policy that is not to share; one that writes the operator's words itself; another text."""
    said = body_of("", words(next(_NUMBERS)))
    system = used(world, tenants[0], **said)[2]
    assert used(world, tenant(world, policy, share=False), **said)[1] == 0
    own = tenant(world, None)
    for mine in ({"preferences": {"system": policy}}, {"preferences": {"user": policy["info"]}}):
        assert used(world, own, **said | mine)[1] == 0
    longer = {"info": policy["info"] + " And something else."}
    assert 0 < used(world, tenant(world, longer), **said)[1] <= whole_blocks(system)
    assert used(world, tenant(world, {"info": "Or: " + policy["info"]}), **said)[1] == 0


def test_sharing_ends_with_the_flag(world: World, tenants: Sequence[str]) -> None:
    first, second = tenants
    said = body_of("", words(next(_NUMBERS)))
    used(world, first, **said)
    changed = world.client("operator").patch(f"/v1/admin/tenants/{second}", json={"share_policy": False})
    assert changed.json()["share_policy"] is False
    assert used(world, second, **said)[1] == 0


def test_profiles_that_the_operator_shares(world: World) -> None:
    """A tenant's own profile may be shared, by an administrator, who alone can add to it from then on."""
    before, shared, names = words(next(_NUMBERS), 120), words(next(_NUMBERS), 120), []
    for _ in range(4):
        names.append(name := tenant(world, None))
        body = {"name": "house", "preferences": {"system": before}}
        assert world.client(name).post("/v1/profiles", json=body).status_code == 201
    first, second, third, apart = names

    def house(who: str) -> tuple[int, int]:
        """Cached tokens under the profile with a question of its own, and those that hold System Info alone."""
        said = body_of("", words(next(_NUMBERS))) | {"preferences": {"profile": "house"}}
        _, cached, system = used(world, who, **said)
        return cached, whole_blocks(system)

    assert house(first)[0] == house(second)[0] == 0
    refused = world.client(first).patch("/v1/profiles/house", json={"shared": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "profile_shared")
    for name in (first, third):
        world.keys[f"{name}/admin"] = world.make_key(name, "profiles:write", "admin", "system")["key"]
        marked = world.client(f"{name}/admin").patch("/v1/profiles/house", json={"shared": True})
        assert marked.json()["shared"] is True
    # What the tenants wrote before is not the operator's, so that guesses cannot be planted.
    house(first)
    assert house(third)[0] == 0
    added = world.client(first).post("/v1/profiles/house/versions", json={"preferences": {"system": shared}})
    assert (added.status_code, added.json()["error"]["code"]) == (403, "profile_shared")
    imported = world.client(first).get("/v1/profiles:export").json()
    imported["profiles"][0]["versions"].append({"number": 2, "preferences": {"system": "mine"}})
    assert world.client(first).post("/v1/profiles:import", json=imported).status_code == 403
    assert world.client(first).delete("/v1/profiles/house").status_code == 403
    version = {"preferences": {"system": shared}}
    for name in (f"{first}/admin", f"{third}/admin", apart):
        assert world.client(name).post("/v1/profiles/house/versions", json=version).status_code == 201
    house(first)
    cached, whole = house(third)
    assert cached == whole > 0
    assert house(apart)[0] == 0
    ended = world.client(f"{third}/admin").patch("/v1/profiles/house", json={"shared": False})
    assert ended.json()["shared"] is False
    assert house(third)[0] == 0


def test_sixteen_tenants_prefill_the_policy_once(world: World, policy: dict[str, Any]) -> None:
    """A tenth of what they prefill when each has its own blocks."""
    sums = {}
    for share in (False, True):
        text = {"info": words(next(_NUMBERS), 400)}
        names = [tenant(world, text, share=share) for _ in range(16)]
        found = [used(world, name, messages=[{"role": "user", "content": "hi"}]) for name in names]
        sums[share] = sum(prompt - cached for prompt, cached, _ in found)
    assert sums[True] <= sums[False] / 10, sums


# The hash itself


def salts(salt: str, tokens: int, block: int) -> list[str | None]:
    return [block_salt(salt, start, start + block) for start in range(0, tokens, block)]


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        (0, ["T", None, None, None]),
        (7, ["T", None, None, None]),
        (8, ["O", "T", None, None]),
        (15, ["O", "T", None, None]),
        (16, ["O", None, "T", None]),
        (31, ["O", None, None, "T"]),
        (32, ["O", None, None, None]),
        (99, ["O", None, None, None]),
    ],
)
def test_where_the_tenants_salt_begins(shared: int, expected: list[str | None]) -> None:
    assert salts(tiered_salt(shared, "O", "T"), 32, 8) == expected


@pytest.mark.parametrize(
    "salt",
    ["plain", "a:b:c:d", "metaalign-tiers:x:O:T", "metaalign-tiers:-1:O:T", "metaalign-tiers:1:O", ":::"],
)
def test_any_other_salt_is_taken_whole(salt: str) -> None:
    assert salts(salt, 24, 8) == [salt, None, None]


@pytest.mark.parametrize("block", [1, 2, 8, 16])
def test_equal_chains_hold_equal_operator_tokens_only(block: int) -> None:
    """Whatever prompts two tenants have: where vLLM's own hashes agree, all tokens so far are the operator's."""
    hasher = block_hasher(block)
    draw = random.Random(block)
    shared_somewhere = 0
    for _ in range(300):
        operator = [draw.randrange(3) for _ in range(draw.randrange(40))]
        prompts = []
        for who in ("T1", "T2"):
            ids = operator[: draw.randrange(len(operator) + 1)] if draw.random() < 0.5 else list(operator)
            ids += [draw.randrange(3) for _ in range(draw.randrange(40))]
            shared = equal_at_the_start(operator, ids)
            prompts.append((shared, hasher(ids, tiered_salt(shared, "O", who))))
        (shared, one), (other_shared, other) = prompts
        same = equal_at_the_start(one, other)
        assert same * block <= min(shared, other_shared)
        shared_somewhere += same
        assert set(one[same:]).isdisjoint(other[same:])
    assert shared_somewhere > 50


def block_hasher(block: int) -> Callable[[list[int], str], list[Any]]:
    """vLLM's own chain of hashes with our salts in it."""
    from vllm.utils.hashing import sha256
    from vllm.v1.core import kv_cache_utils

    from metaalign_server.engine.tiered_salt import install

    install()
    kv_cache_utils.init_none_hash(sha256)
    hashes = kv_cache_utils.get_request_block_hasher(block, sha256)

    def hashed(ids: list[int], salt: str) -> list[Any]:
        request = SimpleNamespace(
            block_hashes=[], num_tokens=len(ids), all_token_ids=ids, mm_features=[], lora_request=None,
            cache_salt=salt, prompt_embeds=None,
        )  # fmt: skip
        return list(hashes(request))  # type: ignore[arg-type]

    return hashed
