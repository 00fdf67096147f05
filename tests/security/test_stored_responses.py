"""Stored responses, as OpenAI's own client uses them; who may read them, and what remains of them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import openai
import pytest

from metaalign import user_token
from tests.security.world import JSON, MODEL, World, dumps

FOX = "What does a fox eat?"
AGAIN = "And what does an otter eat?"


@pytest.fixture
def acme(world: World) -> Iterator[openai.OpenAI]:
    with speaking(world, world.keys["acme"]) as client:
        yield client


def speaking(world: World, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{world.server.url}/v1", api_key=key, max_retries=0)


def ask(client: openai.OpenAI, text: Any = FOX, **options: Any) -> Any:
    return client.responses.create(model=MODEL, input=text, temperature=0, max_output_tokens=200, **options)


def tokens(world: World, messages: list[dict[str, Any]]) -> int:
    return int(world.client("acme").post("/tokenize", json={"messages": messages}).json()["count"])


def test_a_response_is_read_again_and_deleted(acme: openai.OpenAI) -> None:
    made = ask(acme, extra_body={"preferences": "Answer like a pirate."})
    assert made.output_text.startswith("Ahoy!")
    found = acme.responses.retrieve(made.id)
    assert found == made
    assert found.model_extra is not None
    assert found.model_extra["metaalign"]["applied"] is True
    items: list[Any] = acme.responses.input_items.list(made.id).data
    assert [item.content[0].text for item in items] == [FOX]
    acme.responses.delete(made.id)
    for read in (acme.responses.retrieve, acme.responses.delete, acme.responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match=f"no response `{made.id}` is stored"):
            read(made.id)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_dialogue_goes_on_by_id(world: World, acme: openai.OpenAI, streamed: bool) -> None:
    """The model gets every earlier turn: as many tokens as the same dialogue sent whole."""
    turns: list[dict[str, Any]] = []
    last = None
    for text in (FOX, AGAIN, "Thanks!"):
        turns.append({"role": "user", "content": text})
        if streamed:
            with acme.responses.stream(
                model=MODEL, input=text, temperature=0, previous_response_id=last or openai.omit
            ) as stream:
                answer: Any = stream.get_final_response()
        else:
            answer = ask(acme, text, previous_response_id=last)
        assert answer.previous_response_id == last
        assert answer.usage.input_tokens == tokens(world, turns)
        turns.append({"role": "assistant", "content": answer.output_text})
        last = answer.id
        assert acme.responses.retrieve(last).previous_response_id == answer.previous_response_id
    whole = ask(acme, turns[:-1])
    assert whole.output_text == turns[-1]["content"]


def test_each_request_brings_its_own_preferences_and_instructions(world: World, acme: openai.OpenAI) -> None:
    pirate: dict[str, Any] = {"preferences": {"user": {"attributes": {"tone": "pirate"}}}}
    first = ask(acme, instructions="Answer like a pirate.", extra_body=pirate)
    assert first.output_text.startswith("Ahoy!")
    second = ask(acme, AGAIN, previous_response_id=first.id)
    said = {"role": "assistant", "content": first.output_text}
    turns = [{"role": "user", "content": FOX}, said, {"role": "user", "content": AGAIN}]
    assert second.usage.input_tokens == tokens(world, turns)
    assert "metaalign" not in (second.model_extra or {})


def test_a_forced_call_goes_on_by_id(acme: openai.OpenAI) -> None:
    """Items that are no messages are stored and read as they are."""
    food = {"type": "string", "enum": ["mice", "fish"]}
    schema = {"type": "object", "properties": {"food": food}, "required": ["food"]}
    tool: dict[str, Any] = {"type": "function", "name": "feed", "parameters": schema}
    called = ask(acme, tools=[tool], tool_choice="required")
    (call,) = [item for item in called.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    answer = ask(acme, [result], previous_response_id=called.id)
    whole = ask(acme, [{"role": "user", "content": FOX}, call.model_dump(exclude_none=True), result])
    assert answer.usage.input_tokens == whole.usage.input_tokens > 40
    assert answer.output_text == whole.output_text


def test_nothing_is_stored_unasked(world: World, acme: openai.OpenAI) -> None:
    made = ask(acme, "unstored4471words", store=False)
    with pytest.raises(openai.NotFoundError):
        acme.responses.retrieve(made.id)
    assert b"unstored4471words" not in world.store_bytes()


def test_other_tenants_find_nothing(world: World, acme: openai.OpenAI) -> None:
    made = ask(acme)
    with speaking(world, world.keys["other"]) as other:
        for read in (other.responses.retrieve, other.responses.delete, other.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                read(made.id)
        with pytest.raises(openai.NotFoundError) as raised:
            ask(other, previous_response_id=made.id)
        assert raised.value.code == "response_not_found"
        assert raised.value.param == "previous_response_id"
    assert acme.responses.retrieve(made.id).id == made.id


def test_a_users_token_finds_that_users_responses_only(world: World) -> None:
    key = world.make_key("acme", "inference")["key"]
    with speaking(world, user_token(key, "ada")) as ada, speaking(world, user_token(key, "eve")) as eve:
        mine = ask(ada)
        further = ask(ada, AGAIN, previous_response_id=mine.id)
        assert ada.responses.retrieve(further.id).id == further.id
        for response in (mine, further):
            with pytest.raises(openai.NotFoundError):
                eve.responses.retrieve(response.id)
            with pytest.raises(openai.NotFoundError):
                eve.responses.delete(response.id)
            with pytest.raises(openai.NotFoundError):
                ask(eve, previous_response_id=response.id)


def test_a_key_without_system_cannot_go_on_from_a_system_message(world: World, acme: openai.OpenAI) -> None:
    """What was the provider's to say then is so when it comes from the store."""
    made = ask(
        acme, [{"role": "system", "content": "Answer like a pirate."}, {"role": "user", "content": FOX}]
    )
    with speaking(world, world.keys["acme/inference"]) as bare, pytest.raises(openai.PermissionDeniedError):
        ask(bare, AGAIN, previous_response_id=made.id)
    assert ask(acme, AGAIN, previous_response_id=made.id).output_text.startswith("Ahoy!")


def test_a_missing_link_is_named(acme: openai.OpenAI) -> None:
    first = ask(acme)
    second = ask(acme, AGAIN, previous_response_id=first.id)
    acme.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match=f"{first.id}`, which is no longer stored"):
        ask(acme, "Thanks!", previous_response_id=second.id)
    assert acme.responses.retrieve(second.id).id == second.id


@pytest.mark.parametrize("how", ["delete", "erase"])
def test_deleted_responses_leave_no_bytes(world: World, acme: openai.OpenAI, how: str) -> None:
    """An erasure is answered when they are gone; after a deletion they go in the background."""
    words = f"response-{how}-2290words"
    made = [ask(acme, f"{words} {number} " + "otter " * 100, user=how) for number in range(6)]
    world.flushed()
    assert words.encode() in world.store_bytes()
    # Exchanges kept for feedback hold the same words.
    if how == "delete":
        for response in made:
            acme.responses.delete(response.id)
        with closing(sqlite3.connect(world.store, timeout=10)) as connection, connection:
            connection.execute("delete from exchanges where messages like ?", (f"%{words}%",))
        deadline = time.monotonic() + 60
        while words.encode() in world.store_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return
    erased = world.client("acme").post("/v1/feedback/erase", json={"user": how}).json()
    assert erased["responses"] == 6
    assert words.encode() not in world.store_bytes()


def test_what_continues_a_users_dialogue_is_erased_with_it(world: World, acme: openai.OpenAI) -> None:
    """Also where the request names nobody: what it says, and the dialogue that is kept for feedback."""
    words = "continued-7731words"
    first = ask(acme, f"{words} one", user="continuing")
    second = ask(acme, f"{words} two", previous_response_id=first.id)
    ask(acme, f"{words} three", previous_response_id=second.id)
    world.flushed()
    assert words.encode() in world.store_bytes()
    erased = world.client("acme").post("/v1/feedback/erase", json={"user": "continuing"}).json()
    assert erased == {"exchanges": 3, "feedback": 0, "responses": 3}
    assert words.encode() not in world.store_bytes()


def test_a_request_for_another_user_does_not_go_on(acme: openai.OpenAI) -> None:
    first = ask(acme, user="one")
    with pytest.raises(openai.PermissionDeniedError, match="another user"):
        ask(acme, AGAIN, previous_response_id=first.id, user="two")
    assert ask(acme, AGAIN, previous_response_id=first.id, user="one").previous_response_id == first.id


def test_who_may_not_write_the_system_tier_does_not_read_it(world: World, acme: openai.OpenAI) -> None:
    """Nor the whole prompt, for which the one who asked had the scope."""
    secret = "system-words-8841"
    made = ask(
        acme,
        [{"role": "system", "content": f"{secret} in a message"}, {"role": "user", "content": FOX}],
        instructions=f"{secret} in instructions",
        user="ada",
        extra_body={"preferences": f"{secret} in preferences", "enable_response_messages": True},
    )
    assert secret in str(made.model_extra)
    key = world.make_key("acme", "inference")["key"]
    for token in (key, user_token(key, "ada")):
        with speaking(world, token) as client:
            assert secret not in client.responses.with_raw_response.retrieve(made.id).text
            assert secret not in str(client.responses.input_items.list(made.id).data)
    found = acme.responses.retrieve(made.id)
    assert found.instructions == f"{secret} in instructions"
    assert f"{secret} in preferences" not in found.model_dump_json()
    assert secret in str(acme.responses.input_items.list(made.id).data)


def test_items_of_odd_forms(world: World, acme: openai.OpenAI) -> None:
    """What the request accepts can be read again."""
    client = world.client("acme")
    odd = [{"role": "user", "content": "hi \ud800 \x00", "id": 5, "more": {"deep": [1]}}]
    body: dict[str, Any] = {"model": MODEL, "max_output_tokens": 1}
    for items in (odd, [*odd, {"role": "user", "content": "there", "id": None}]):
        made = client.post("/v1/responses", content=dumps(body | {"input": items}), headers=JSON)
        if made.status_code == 400:  # refused by the protocol, so nothing is stored
            continue
        listed = client.get(f"/v1/responses/{made.json()['id']}/input_items")
        assert listed.status_code == 200, listed.text
        assert all(isinstance(item["id"], str) for item in listed.json()["data"])
    text = json.dumps(body | {"input": [{"role": "user", "content": "hi", "more": float("nan")}]})
    refused = client.post("/v1/responses", content=text, headers=JSON)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


def test_items_come_in_pages(acme: openai.OpenAI) -> None:
    said = [{"role": "user", "content": f"question {number}"} for number in range(25)]
    made = ask(acme, said)
    newest_first = [item.content for item in acme.responses.input_items.list(made.id)]  # type: ignore[union-attr]
    assert newest_first == [f"question {number}" for number in reversed(range(25))]
    page = acme.responses.input_items.list(made.id, order="asc", limit=10)
    assert page.has_more
    assert len(list(page)) == 25


def test_a_dialogue_has_a_bound(world: World) -> None:
    """In bytes, before it is read: an answer repeats what the model never sees."""
    client = world.client("other")
    body = {"model": MODEL, "input": "hi", "max_output_tokens": 1, "metadata": {"padding": "x" * 1_500_000}}
    last: str | None = None
    for _ in range(3):
        made = client.post("/v1/responses", json=body | {"previous_response_id": last})
        assert made.status_code == 200, made.text
        last = made.json()["id"]
    refused = client.post("/v1/responses", json=body | {"previous_response_id": last})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "refused_field")
    assert refused.json()["error"]["param"] == "previous_response_id"


def test_users_are_stored_as_hashes(world: World, acme: openai.OpenAI) -> None:
    made = ask(acme, user="somebody-with-a-name")
    with closing(sqlite3.connect(world.store, timeout=10)) as connection:
        query = "select user_ref, document from responses where id = ?"
        ((user_ref, document),) = connection.execute(query, (made.id,)).fetchall()
    assert len(user_ref) == 64
    assert "somebody-with-a-name" not in user_ref
    assert made.id in document


@pytest.mark.parametrize(
    ("query", "field"),
    [({"background": True}, "background"), ({"previous_response_id": "resp_\x00"}, "previous_response_id")],
)
def test_refusals_name_the_field(acme: openai.OpenAI, query: dict[str, Any], field: str) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=field):
        ask(acme, **query)
