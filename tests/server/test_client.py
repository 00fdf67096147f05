"""The Python client against the real server: both kinds of it, every resource, and its errors."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

import metaalign
import metaalign.anthropic
import metaalign.openai
from metaalign import APIError, AsyncMetaAlign, ConnectionFailed, MetaAlign, Preferences, UserPreferences
from metaalign.client import errors
from tests.processes import free_port
from tests.server.conftest import Twin
from tests.server.twin import KEY, USER_KEY

OTTER = "Tell me three things about the otter."
BULLETS = "- The otter lives in rivers.\n- The otter eats fish.\n- The otter uses stones as tools."
PIRATE = "Ahoy! The otter lives in rivers. The otter eats fish. The otter uses stones as tools. Arr, matey!"


@pytest.fixture(scope="module")
def own(twin: Twin) -> Iterator[MetaAlign]:
    with MetaAlign(f"{twin.url}/v1/", KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    "preferences",
    [
        {"user": {"attributes": {"format": "bullets"}}},
        Preferences(user=UserPreferences(attributes={"format": "bullets"})),
    ],
)
def test_one_query_and_its_receipt(own: MetaAlign, preferences: Any) -> None:
    answer = own.align(OTTER, preferences=preferences, temperature=0)
    assert answer.text == BULLETS
    assert answer.metaalign is not None
    assert answer.metaalign.applied
    plain = own.align(OTTER, temperature=0)
    assert plain.text != BULLETS
    assert plain.metaalign is None


@pytest.mark.parametrize(
    "preferences",
    [
        {"user": {"attributes": {"format": "bullets"}}, "strength": {"user": 0}},
        Preferences(
            user=UserPreferences(attributes={"format": "bullets"}), strength=metaalign.Strength(user=0)
        ),
    ],
    ids=["mapping", "model"],
)
def test_how_strongly_preferences_act(own: MetaAlign, preferences: Any) -> None:
    """0 is as if the tier were not there."""
    answer = own.align(OTTER, preferences=preferences, temperature=0)
    assert answer.text == own.align(OTTER, temperature=0).text
    assert answer.metaalign is not None
    steering = answer.metaalign.steering
    assert steering is not None
    assert (steering.strength.system, steering.strength.user, steering.branches) == (1, 0, 1)


def test_a_blend_and_the_best_of_several(own: MetaAlign) -> None:
    bullets = UserPreferences(attributes={"format": "bullets"})
    blend = Preferences(blend=(metaalign.BlendPart(weight=1, user=bullets),))
    assert own.align(OTTER, preferences=blend, temperature=0).text == BULLETS
    best = Preferences(user=bullets, candidates=3)
    with own.align_stream(OTTER, preferences=best, temperature=0.8) as stream:
        stream.until_done()
    assert stream.receipt is not None
    steering = stream.receipt.steering
    assert isinstance(steering, metaalign.SteeringApplied)
    assert steering.candidates == 3
    assert isinstance(steering.score, float)


def test_a_dialogue(own: MetaAlign) -> None:
    told = [{"role": "user", "content": OTTER}]
    preferences = {"system": "Answer like a pirate.", "user": {"attributes": {"tone": "formal"}}}
    answer = own.chat.create(told, preferences=preferences, temperature=0)
    assert answer.text == PIRATE
    assert answer.usage is not None
    again = own.chat.create(told, model="metaalign-demo", temperature=0)
    assert "Ahoy" not in again.text


def test_a_stream_has_its_receipt_first_and_its_usage_last(own: MetaAlign) -> None:
    pieces: list[str] = []
    with own.align_stream(OTTER, preferences="Answer like a pirate.", temperature=0) as stream:
        assert stream.receipt is None
        for piece in stream:
            assert stream.receipt is not None
            pieces.append(piece)
    assert len(pieces) > 5
    assert "".join(pieces) == stream.text == PIRATE
    assert stream.finish_reason == "stop"
    assert stream.usage is not None
    assert stream.usage["completion_tokens"] > 5


def test_a_stream_may_be_left(own: MetaAlign) -> None:
    with own.align_stream(OTTER, temperature=0) as stream:
        next(iter(stream))
    assert 0 < len(stream.text) < 40
    with own.align_stream(OTTER, temperature=0) as stream:
        assert stream.until_done().count("otter") >= 2


def test_what_the_model_would_be_told(own: MetaAlign) -> None:
    rendered = own.render(
        {"system": "Be brief.", "user": "I am a nurse."}, [{"role": "user", "content": "Hi"}]
    )
    assert rendered.system_info == "Be brief."
    assert "I am a nurse." in rendered.prompt
    assert rendered.tokens == len(rendered.prompt_token_ids)


def test_the_life_of_a_profile(own: MetaAlign) -> None:
    name = f"client-{uuid.uuid4().hex[:8]}"
    made = own.profiles.create(name, {"user": {"attributes": {"format": "bullets"}}}, note="first")
    assert (made.name, made.latest) == (name, 1)
    added = own.profiles.add_version(name, "Answer like a pirate.", etag=made.etag)
    assert added.version == 2
    with pytest.raises(errors.PreconditionFailed):
        own.profiles.add_version(name, "Answer formally.", etag=made.etag)
    moved = own.profiles.move_label(name, "stable", 1)
    assert moved.labels["stable"].versions[0].version == 1
    assert own.align(OTTER, preferences={"profile": name}, temperature=0).text == BULLETS
    own.profiles.move_label(name, "stable", {1: 10, 2: 90})
    assert own.profiles.roll_back(name, "stable").labels["stable"].versions[0].version == 1
    assert [version.version for version in own.profiles.versions(name, page=1)] == [2, 1]
    assert own.profiles.version(name, 1).note == "first"
    assert {change.path for change in own.profiles.diff(name, 1, 2).changes}
    assert name in {profile.name for profile in own.profiles.list(page=1)}
    document = own.profiles.export()
    assert name in own.profiles.import_(document).unchanged
    assert own.profiles.delete_label(name, "stable").labels == {}
    assert own.profiles.change(name, archived=True).archived
    assert name not in {profile.name for profile in own.profiles.list()}
    assert name in {profile.name for profile in own.profiles.list(archived=True)}
    own.profiles.delete(name)
    with pytest.raises(errors.ProfileNotFound):
        own.profiles.get(name)


def test_sending_twice_makes_one_version(own: MetaAlign) -> None:
    name, key = f"client-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    own.profiles.create(name, "Be brief.")
    for _ in range(2):
        assert own.profiles.add_version(name, "Be long.", idempotency_key=key).version == 2
    assert len(list(own.profiles.versions(name))) == 2
    with pytest.raises(errors.IdempotencyKeyReused):
        own.profiles.add_version(name, "Be kind.", idempotency_key=key)


def test_feedback(own: MetaAlign) -> None:
    answer = own.align(OTTER, preferences="Answer like a pirate.", user="client", store=True)
    assert own.feedback.give(answer, "up").recorded
    assert own.feedback.erase("client").exchanges >= 1
    with pytest.raises(errors.ExchangeNotFound):
        own.feedback.give(answer.id, "down")


def test_tenants_and_keys(own: MetaAlign, twin: Twin) -> None:
    name = f"client-{uuid.uuid4().hex[:8]}"
    tenant = own.admin.tenants.create(name, limits={"requests_per_minute": 2})
    assert own.admin.tenants.get(name).limits.requests_per_minute == 2
    assert own.admin.tenants.change(name, etag=tenant.etag, share_cache=True).share_cache
    key = own.admin.keys.create(["inference"], tenant=name, name="first")
    with MetaAlign(twin.url, key.key, max_retries=0) as theirs:
        theirs.align(OTTER)
        with pytest.raises(errors.SystemTierForbidden) as forbidden:
            theirs.align(OTTER, preferences="Answer like a pirate.")
        assert forbidden.value.param == "preferences.system"
        with pytest.raises(errors.RateLimitExceeded) as limited:
            for _ in range(3):
                theirs.align(OTTER)
        assert limited.value.retry_after
        renewed = own.admin.keys.rotate(key.id, grace_seconds=0)
        with pytest.raises(errors.InvalidApiKey):
            theirs.models()
    assert own.admin.keys.revoke(renewed.id).revoked_at is not None
    assert {k.id for k in own.admin.keys.list(tenant=name, page=1)} == {key.id, renewed.id}
    assert name in {t.name for t in own.admin.tenants.list(page=1)}
    assert any(entry.action == "tenant.create" for entry in own.admin.audit(page=5))
    assert own.admin.erase("nobody", tenant=name).exchanges == 0


def test_errors_say_what_to_do(own: MetaAlign, twin: Twin) -> None:
    with pytest.raises(metaalign.InvalidPreferences, match=r"preferences\.sytem: unknown key") as wrong:
        own.align(OTTER, preferences={"sytem": "Answer like a pirate."})
    assert isinstance(wrong.value, errors.BadRequestError)
    assert isinstance(wrong.value, APIError)
    assert (wrong.value.status, wrong.value.param) == (400, "preferences.sytem")
    assert wrong.value.request_id
    assert "JSON Schema" in wrong.value.remedy
    with (
        MetaAlign(twin.url, "ma_wrong", max_retries=0) as stranger,
        pytest.raises(errors.AuthenticationError),
    ):
        stranger.models()
    with (
        MetaAlign(twin.url, USER_KEY, max_retries=0) as user,
        pytest.raises(errors.MissingScope, match="admin"),
    ):
        user.admin.tenants.get("default")
    with pytest.raises(errors.BadRequestError), own.chat.stream([]) as _:
        pass


def test_the_rest_of_the_server(own: MetaAlign) -> None:
    assert [model["id"] for model in own.models().data] == ["metaalign-demo"]
    assert own.version().version == metaalign.__version__
    assert own.ready().status


def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        MetaAlign(url, max_retries=1) as client,
        pytest.raises(ConnectionFailed, match=r"no server answers at http"),
    ):
        client.align(OTTER)


def test_awaiting(twin: Twin) -> None:
    async def all_of_it() -> None:
        async with AsyncMetaAlign(twin.url, KEY, max_retries=0) as client:
            answers = await asyncio.gather(
                *(client.align(OTTER, preferences="Answer like a pirate.", temperature=0) for _ in range(4))
            )
            assert {answer.text for answer in answers} == {PIRATE}
            stream = client.chat.stream([{"role": "user", "content": OTTER}], temperature=0)
            async with stream as answer:
                assert "otter" in await answer.until_done()
            made = await client.profiles.create(f"client-{uuid.uuid4().hex[:8]}", "Be brief.")
            assert made.name in {profile.name async for profile in client.profiles.list(page=1)}
            with pytest.raises(errors.ProfileNotFound):
                await client.profiles.get("nobody")

    asyncio.run(all_of_it())


def test_preferences_through_openai(client: openai.OpenAI) -> None:
    create: Any = client.chat.completions.create
    told = {"model": "metaalign-demo", "messages": [{"role": "user", "content": OTTER}], "temperature": 0}
    answer = create(**told, **metaalign.openai.extra("Answer like a pirate."))
    assert answer.choices[0].message.content == PIRATE
    whole = metaalign.openai.receipt(answer)
    assert isinstance(whole, metaalign.Receipt)
    assert whole.applied
    raw: Any = client.chat.completions.with_raw_response.create
    trace = metaalign.openai.receipt(raw(**told, **metaalign.openai.extra("Answer like a pirate.")))
    assert trace is not None
    assert whole.spec_hash == trace.spec_hash
    events = list(create(**told, stream=True, **metaalign.openai.extra("Answer like a pirate.")))
    assert isinstance(metaalign.openai.receipt(events[0]), metaalign.Receipt)
    assert metaalign.openai.receipt(create(**told)) is None
    steered = {"user": {"attributes": {"format": "bullets"}}, "strength": {"user": 1.5}}
    whole = metaalign.openai.receipt(create(**told, **metaalign.openai.extra(steered)))
    assert whole is not None
    assert whole.steering is not None
    assert (whole.steering.strength.user, whole.steering.branches) == (1.5, 2)


def test_preferences_through_anthropic(claude: anthropic.Anthropic) -> None:
    create: Any = claude.messages.create
    answer = create(
        model="metaalign-demo",
        max_tokens=100,
        messages=[{"role": "user", "content": OTTER}],
        **metaalign.anthropic.extra({"user": {"attributes": {"format": "bullets"}}}),
    )
    assert answer.content[0].text == BULLETS
    assert isinstance(metaalign.anthropic.receipt(answer), metaalign.Receipt)
    steered = {"user": {"attributes": {"format": "bullets"}}, "strength": {"user": 1.5}}
    answer = create(
        model="metaalign-demo",
        max_tokens=100,
        messages=[{"role": "user", "content": OTTER}],
        **metaalign.anthropic.extra(steered),
    )
    receipt = metaalign.anthropic.receipt(answer)
    assert receipt is not None
    assert receipt.steering is not None
    assert (receipt.steering.strength.user, receipt.steering.branches) == (1.5, 2)
