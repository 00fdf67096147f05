"""Large, deep or hard-to-compile input is refused or bounded in time, and nobody else waits for it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from metaalign_server.serving.header_deadline import HEADER_SECONDS
from tests.security.world import CHAT, HI, JSON, MODEL, World, dumps

MIB = 1024 * 1024


def schema(value: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}}


def properties(number: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(number)}}


def ranges(number: int) -> dict[str, Any]:
    """A schema that takes xgrammar more than a millisecond for each of its properties, only to read it."""
    return {
        "type": "object",
        "properties": {
            f"k{n}": {"type": "integer", "minimum": n - 10**15, "maximum": 10**17 - n} for n in range(number)
        },
    }


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def tag(content: dict[str, Any]) -> dict[str, Any]:
    """A structural tag, which is JSON in a text."""
    whole = {
        "type": "structural_tag",
        "format": {"type": "tag", "begin": "<a>", "content": content, "end": "</a>"},
    }
    return {"structured_outputs": {"structural_tag": json.dumps(whole)}}


BOMBS: dict[str, dict[str, Any]] = {
    "n": {"n": 10**9},
    "n, beams": {"n": 10**9, "use_beam_search": True},
    "messages": {"messages": HI * 60_000},
    "parts": user([{"type": "text", "text": "a"}] * 60_000),
    "long text": user("word " * 700_000),
    "control strings": user("<|end|>" * 500_000),
    "angle brackets": user("<" * 3 * MIB),
    "blanks": user(" " * 3 * MIB),
    "tools": {"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(20_000)]},
    "tool properties": {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": properties(50_000)}}]
    },
    "bad words": {"bad_words": [f"x{n}" for n in range(100_000)]},
    "biases": {"logit_bias": {str(n): 1 for n in range(100_000)}},
    "stops": {"stop": [f"x{n}" for n in range(100_000)]},
    "log probabilities": {"logprobs": True, "top_logprobs": 10**6},
    "prompt log probabilities": {"prompt_logprobs": 10**6},
    "tokens": {"max_tokens": 10**12},
    "large expression": {"structured_outputs": {"regex": "(a|aa)*" * 2000 + "b"}},
    "long expression": {"structured_outputs": {"regex": ".*" * 2000}},
    "deep expression": {"structured_outputs": {"regex": "(" * 50_000 + "a" + ")" * 50_000}},
    "large schema": schema(properties(20_000)),
    "large schema as text": {"structured_outputs": {"json": json.dumps(properties(20_000))}},
    "many schemas": schema({"anyOf": [properties(100)] * 100}),
    "patterns": schema(
        {"type": "object", "properties": {f"p{n}": {"pattern": ".*" * 250} for n in range(20)}}
    ),
    "references": schema({"$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(4000)}}),
    "large enumeration": schema({"enum": [f"p{n}" for n in range(100_000)]}),
    "choices": {"structured_outputs": {"choice": [f"p{n}" for n in range(100_000)]}},
    "grammar": {"structured_outputs": {"grammar": "root ::= " + " | ".join(f'"{n}"' for n in range(50_000))}},
    "long choices": {"structured_outputs": {"choice": [f"{n}" + "x" * 1000 for n in range(2_000)]}},
    "structural tag": {
        "structured_outputs": {
            "structural_tag": json.dumps(
                {
                    "structures": [{"begin": "<a>", "schema": properties(20_000), "end": "</a>"}],
                    "triggers": ["<a>"],
                }
            )
        }
    },
    "structural tag, schema": tag({"type": "json_schema", "json_schema": properties(20_000)}),
    "structural tag, ranges": tag({"type": "json_schema", "json_schema": ranges(9_000)}),
    "structural tag as format": {
        "response_format": {
            "type": "structural_tag",
            "format": {
                "type": "tag",
                "begin": "<a>",
                "content": {"type": "json_schema", "json_schema": ranges(9_000)},
                "end": "</a>",
            },
        }
    },
    "structural tag, expression": tag({"type": "regex", "pattern": ".*" * 2000}),
    "structural tag, grammar": tag(
        {"type": "grammar", "grammar": "root ::= " + " | ".join(f'"{n}"' for n in range(50_000))}
    ),
    "legacy expression": {"guided_regex": "(a+)+$", "guided_json": properties(1_000)},
    "preferences": {"preferences": "x" * MIB},
    "attributes": {"preferences": {"user": {"attributes": {f"a{n}": "x" for n in range(100_000)}}}},
    "examples": {"preferences": {"user": {"examples": [{"query": "q", "preferred": "p"}] * 50_000}}},
    "profiles": {"preferences": {"profile": ["a"] * 100_000}},
    "user id": {"user": "u" * 3 * MIB},
}


@pytest.mark.parametrize("bomb", sorted(BOMBS))
def test_bombs(world: World, bomb: str) -> None:
    """A request that would cost too much gets a 4xx soon, and others are answered meanwhile."""
    with world.stays_responsive(2):
        answer = world.ask("acme", **BOMBS[bomb])
    assert answer.status_code in ((200,) if bomb in ("legacy expression", "user id") else (400,)), (
        answer.text[:300]
    )
    assert answer.elapsed.total_seconds() < 6


@pytest.mark.parametrize(
    "constraint",
    [
        {"structured_outputs": {"regex": "(a+)+$"}},
        {"structured_outputs": {"regex": "(a{1,1000}){1,1000}"}},
        {"structured_outputs": {"regex": "(a|aa)*" * 70}},
        {"structured_outputs": {"regex": ".*" * 250}},
        schema({"type": "string", "pattern": "((x+)+)+$"}),
        schema({"type": "array", "items": {"type": "string", "maxLength": 10**5}, "minItems": 10**5}),
        schema(properties(800)),
    ],
    ids=str,
)
def test_hard_constraints_within_the_bounds(world: World, constraint: dict[str, Any]) -> None:
    """Constraints small enough to be accepted compile in bounded time, while others' requests are served."""
    with world.stays_responsive(2):
        answer = world.ask("acme", max_tokens=50, **constraint)
    assert answer.status_code in (200, 400), answer.text
    assert answer.elapsed.total_seconds() < 10


# Within the bounds on size, and minutes of compiling: alternatives that share no key, nested counts, ranges of numbers.
SLOW_SCHEMAS: dict[str, dict[str, Any]] = {
    "alternatives": {
        "anyOf": [
            {
                "type": "object",
                "properties": {f"k{n}": {"type": "string", "maxLength": n}},
                "required": [f"k{n}"],
            }
            for n in range(900)
        ]
    },
    "counts": {
        "type": "object",
        "properties": {
            f"k{n}": {"type": "string", "pattern": "^([a-z]{1,50}[0-9]?){1,50}$"} for n in range(70)
        },
    },
    "ranges": ranges(900),
}


@pytest.mark.parametrize("slow", sorted(SLOW_SCHEMAS))
def test_constraints_that_take_minutes_are_refused(world: World, slow: str) -> None:
    """Compiling ends at a deadline with a 400 for this request alone, in every protocol and also in a stream."""
    wanted = SLOW_SCHEMAS[slow]
    chat = schema(wanted)
    requests: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/chat/completions", chat, "response_format"),
        ("/v1/chat/completions", chat | {"stream": True}, "response_format"),
        ("/v1/chat/completions", {"structured_outputs": {"json": wanted}}, "structured_outputs"),
        ("/v1/completions", {"prompt": "hi"} | chat, "response_format"),
        (
            "/v1/responses",
            {
                "input": "hi",
                "max_tokens": None,
                "max_output_tokens": 16,
                "text": {"format": {"type": "json_schema", "name": "x", "schema": wanted}},
            },
            "text",
        ),
        ("/v1/chat/completions", tag({"type": "json_schema", "json_schema": wanted}), "structured_outputs"),
    ]
    with world.stays_responsive(2):
        for path, body, field in requests:
            answer = world.ask("acme", path, **body)
            assert answer.status_code == 400, answer.text
            error = answer.json()["error"]
            assert "the output constraint takes" in error["message"]  # too long to read, or to compile
            assert error["param"] == field
    assert world.ask("acme", max_tokens=20, **schema(properties(3))).status_code == 200


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"type": "structural_tag"}',
        '{"type": "structural_tag", "format": {"type": "nothing"}}',
        '{"structures": [{"begin": "<a>"}], "triggers": ["<a>"]}',
        json.dumps({"type": "structural_tag", "format": {"type": "regex", "pattern": "("}}),
        7,
        {"type": "structural_tag"},
    ],
    ids=str,
)
def test_malformed_structural_tags(world: World, malformed: Any) -> None:
    """They are read in a trial, not while the request is parsed, and still they are the client's mistake."""
    for path, prompt in (("/v1/chat/completions", {}), ("/v1/completions", {"prompt": "hi"})):
        for stream in (False, True):
            body = {"structured_outputs": {"structural_tag": malformed}, "stream": stream, **prompt}
            answer = world.ask("acme", path, **body)
            assert answer.status_code == 400, (path, stream, answer.text)
            error = answer.json()["error"]
            assert (error["code"], error["param"]) == ("invalid_request", "structured_outputs")
        assert world.ask("acme", path, **prompt, **tag({"type": "regex", "pattern": "x"})).status_code == 200


@pytest.mark.parametrize(
    "nothing",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/b"}},
            "$defs": {"b": {"anyOf": [{"$ref": "#/$defs/b"}]}},
        },
        {"enum": []},
        {"type": "string", "minLength": 5, "maxLength": 1},
    ],
    ids=str,
)
def test_a_schema_that_nothing_fulfils_is_refused(world: World, nothing: dict[str, Any]) -> None:
    with world.stays_responsive(2):
        answer = world.ask("acme", max_tokens=20, **schema(nothing))
    assert answer.status_code == 400, answer.text


def test_a_schema_may_name_itself(world: World) -> None:
    """Schemas that refer to themselves, as for trees, are accepted."""
    tree = {"type": "object", "properties": {"child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    assert world.ask("acme", max_tokens=20, **schema(tree)).status_code == 200


def test_a_grammar_that_nothing_fulfils_fails_alone(world: World) -> None:
    """This request ends in an error, and the engine survives."""
    with world.stays_responsive(2):
        answer = world.ask("acme", max_tokens=20, structured_outputs={"grammar": "root ::= root"})
    assert answer.status_code == 500
    assert world.ask("acme").status_code == 200


@pytest.mark.parametrize(
    "huge",
    [
        {"top_k": 2**70}, {"stop_token_ids": [2**70]}, {"logprob_token_ids": [2**70]}, {"vllm_xargs": {"a": 2**70}},
        {"thinking_token_budget": 2**70}, {"allowed_token_ids": [2**70]}, {"logit_bias": {str(2**70): 1}},
        {"min_tokens": 2**70}, {"stream_interval": 2**70}, {"routed_experts_prompt_start": 2**70},
        {"allowed_token_ids": [-1]}, {"allowed_token_ids": []}, {"logit_bias": {"-1": 1}}, {"stop_token_ids": [-5]},
    ],
    ids=str,
)  # fmt: skip
def test_huge_numbers(world: World, huge: dict[str, Any]) -> None:
    answer = world.ask("acme", **huge)
    assert answer.status_code in (200, 400), answer.text
    assert world.ask("acme").status_code == 200


NOTHING = {"x": 1}
MANY: list[tuple[str, dict[str, Any], Any]] = [
    ("/v1/chat/completions", {"messages": "*"}, NOTHING),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "*"}]}, NOTHING),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": "*"}]}, NOTHING),
    ("/v1/chat/completions", {"messages": HI, "tools": "*"}, NOTHING),
    ("/v1/completions", {"prompt": "*"}, NOTHING),
    ("/v1/messages", {"messages": "*"}, HI[0]),
    ("/v1/messages", {"messages": [{"role": "user", "content": "*"}]}, {"type": "text", "text": "a"}),
    ("/v1/messages", {"messages": HI, "system": "*"}, NOTHING),
    ("/v1/messages/count_tokens", {"messages": "*"}, NOTHING),
    ("/v1/responses", {"input": "*"}, HI[0]),
    ("/v1/responses", {"input": "*"}, NOTHING),
    ("/v1/responses", {"input": "*"}, {"type": "function_call"}),
    ("/v1/responses", {"input": [{"role": "user", "content": "*"}]}, NOTHING),
    ("/v1/responses", {"input": [{"type": "reasoning", "summary": "*"}]}, NOTHING),
    ("/v1/responses", {"input": "hi", "tools": "*"}, NOTHING),
    ("/v1/responses", {"input": "hi", "include": "*"}, NOTHING),
    ("/v1/align", {"query": "hi", "preferences": {"user": {"examples": "*"}}}, NOTHING),
    ("/v1/feedback", {"id": "x", "tags": "*"}, NOTHING),
    ("/v1/profiles", {"name": "x", "preferences": {"user": {"examples": "*"}}}, NOTHING),
    ("/v1/preferences/render", {"messages": "*"}, NOTHING),
    ("/v1/preferences/render", {"messages": [{"role": "user", "content": "*"}]}, {}),
    ("/v1/preferences/render", {"messages": "*"}, 1),
    ("/v1/chat/completions", {"messages": HI, "structured_outputs": {"choice": "*"}}, {}),
    ("/v1/chat/completions", {"messages": HI, "tools": [{"function": {"parameters": {"a": "*"}}}]}, []),
    (
        "/v1/chat/completions",
        {"messages": HI, "response_format": {"type": "structural_tag", "format": "*"}},
        [],
    ),
    ("/v1/chat/completions", {"messages": HI, "preferences": {"verify": "*"}}, {}),
    ("/v1/chat/completions", {"messages": HI, "preferences": {"system": {"priorities": "*"}}}, {}),
    (
        "/v1/responses",
        {
            "input": [
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "a", "annotations": "*"}],
                }
            ]
        },
        {},
    ),
    ("/v1/profiles:import", {"profiles": [{"name": "a", "versions": "*"}]}, {}),
    ("/tokenize", {"messages": [{"role": "user", "content": "*"}]}, {}),
    ("/tokenize", {"messages": "*"}, NOTHING),
    ("/detokenize", {"tokens": "*"}, NOTHING),
]


@pytest.mark.parametrize(("path", "body", "item"), MANY, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("number", [4_000, 100_000])
def test_many_items(world: World, number: int, path: str, body: dict[str, Any], item: Any) -> None:
    """A list of things that are not what it may hold is refused for the first; a list that is too long, unread."""
    content = dumps({"model": MODEL, "max_tokens": 1} | body).replace(b'"*"', dumps([item] * number))
    with world.stays_responsive(2):
        answer = world.client("acme").post(path, content=content, headers=JSON)
    assert answer.status_code in (400, 413, 422), answer.text[:300]
    assert answer.elapsed.total_seconds() < 2


KEYS: list[tuple[str, dict[str, Any], Any]] = [
    ("/v1/chat/completions", {"messages": HI, "vllm_xargs": "*"}, {}),
    ("/v1/chat/completions", {"messages": HI, "logit_bias": "*"}, "x"),
    ("/v1/chat/completions", {"messages": HI, "documents": ["*"]}, 1),
    ("/v1/completions", {"prompt": "hi", "vllm_xargs": "*"}, {}),
    ("/v1/responses", {"input": "hi", "metadata": "*"}, {}),
    ("/v1/responses", {"input": [{"type": "local_shell_call", "action": {"type": "exec", "env": "*"}}]}, {}),
    ("/v1/align", {"query": "hi", "preferences": {"user": {"attributes": "*"}}}, 1),
]


@pytest.mark.parametrize(("path", "body", "value"), KEYS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("number", [4_000, 100_000])
def test_many_keys(world: World, number: int, path: str, body: dict[str, Any], value: Any) -> None:
    keys = dumps({f"K {n}": value for n in range(number)})
    content = dumps({"model": MODEL} | body).replace(b'"*"', keys)
    with world.stays_responsive(2):
        answer = world.client("acme").post(path, content=content, headers=JSON)
    assert answer.status_code == 400, answer.text[:300]
    assert len(answer.content) < 3_000


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/profiles/x", "PATCH"),
        ("/v1/profiles", "POST"),
        ("/v1/profiles/x/labels/a", "PUT"),
        ("/v1/align", "POST"),
    ],
)
def test_many_unknown_fields(world: World, path: str, method: str) -> None:
    content = dumps({f"k{n}": {} for n in range(100_000)})
    with world.stays_responsive(2):
        answer = world.client("acme").request(method, path, content=content, headers=JSON)
    assert answer.status_code == 400, answer.text[:300]


def test_many_query_parameters_and_header_fields(world: World) -> None:
    """FastAPI takes time that grows with the square of their number."""
    client = world.client("acme")
    query = "&".join(f"a{n}" for n in range(5_000))
    with world.stays_responsive(1):
        assert client.get(f"/v1/profiles?{query}").status_code == 400
        many = {f"x-{n}": "" for n in range(3_000)}
        assert client.patch("/v1/profiles/x", json={}, headers=many).status_code in (400, 431)
    assert client.get("/v1/profiles?limit=1").status_code == 200


def test_repeated_log_probabilities_of_the_prompt(world: World) -> None:
    """A request of 3 kB made an answer of 48 MB, in one piece: each choice repeats those of the prompt."""
    body = {"prompt": "a " * 1500, "echo": True, "logprobs": 5, "n": 60, "temperature": 1, "max_tokens": 0}
    with world.stays_responsive(2):
        answer = world.ask("acme", "/v1/completions", **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("logprobs", "prompt_logprobs")


SURROGATE = "\ud800"


@pytest.mark.parametrize(
    "body",
    [
        {"model": SURROGATE},
        {"model": "a" * 1_000_000},
        {"stop": SURROGATE},
        {"stop": [SURROGATE]},
        {"bad_words": [SURROGATE]},
        {"vllm_xargs": {SURROGATE: 1}},
        {"logit_bias": {"9" * 1_000_000: 1}},
        {"preferences": {"user": {"attributes": {"a" * 1_000_000: "x"}}}},
        {"preferences": {"user": {"attributes": {SURROGATE: "x"}}}},
        {SURROGATE: 1},
    ],
    ids=lambda body: str(body)[:40],
)
@pytest.mark.parametrize("stream", [False, True])
def test_texts_that_cannot_be_repeated(world: World, body: dict[str, Any], stream: bool) -> None:
    """An error quotes a little of what the client sent, and never what no answer can hold."""
    answer = world.ask("acme", **body, stream=stream)
    assert answer.status_code in (400, 404), answer.text
    assert len(answer.content) < 3_000


@pytest.mark.parametrize(
    "body",
    [
        {"model": SURROGATE},
        {"metadata": {"a": SURROGATE}},
        {"reasoning": {"x": SURROGATE}},
        {"text": {"format": {"type": "text"}, "x": SURROGATE}},
        {"tools": [{"type": "function", "name": "f", "x": SURROGATE}]},
    ],
    ids=str,
)
def test_responses_that_would_repeat_a_surrogate(world: World, body: dict[str, Any]) -> None:
    """Nothing is generated for an answer that could not be written."""
    answer = world.ask("acme", "/v1/responses", input="hi", max_tokens=None, **body)
    assert answer.status_code in (400, 404), answer.text


@pytest.mark.parametrize("path", ["/v1/align", "/tokenize", "/v1/preferences/render"])
def test_short_bodies_with_a_surrogate(world: World, path: str) -> None:
    for body in ({"model": SURROGATE}, {"stop": SURROGATE}, {"query": SURROGATE}):
        answer = world.client("acme").post(path, content=dumps({"query": "hi"} | body), headers=JSON)
        assert answer.status_code in (400, 404), answer.text


def test_many_prompts(world: World) -> None:
    for prompts, n in ((["a"] * 2000, 1), (["a"] * 1024, 64), ([[1, 50]] * 1024, 2)):
        with world.stays_responsive(2):
            answer = world.ask("acme", "/v1/completions", prompt=prompts, n=n, temperature=1)
        assert answer.status_code == 400


DEEP = {
    "lists": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "less deep": b'{"a":' * 900 + b"1" + b"}" * 900,
}


@pytest.mark.parametrize("nested", sorted(DEEP))
@pytest.mark.parametrize(
    "around",
    [
        b'{"model":"%m","messages":%s}',
        b'{"model":"%m","messages":[{"role":"user","content":"a"}],"preferences":%s}',
        b'{"model":"%m","messages":[{"role":"user","content":"a"}],"unknown":%s}',
        b'{"model":"%m","messages":[{"role":"user","content":"a"}],"max_tokens":1,"structured_outputs":{"json":%s}}',
        b'{"model":"%m","messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":'
        b'{"name":"f","parameters":%s}}]}',
    ],
)
def test_deep_json(world: World, nested: str, around: bytes) -> None:
    content = around.replace(b"%m", MODEL.encode()).replace(b"%s", DEEP[nested])
    with world.stays_responsive(2):
        answer = world.client("acme").post("/v1/chat/completions", content=content, headers=JSON)
    assert answer.status_code == 400 or (nested == "less deep" and b"unknown" in around), answer.text[:300]


@pytest.mark.parametrize(
    "path", ["/v1/profiles", "/v1/profiles:import", "/v1/feedback", "/v1/align", "/v1/responses"]
)
def test_deep_json_elsewhere(world: World, path: str) -> None:
    for content in DEEP.values():
        assert world.client("acme").post(path, content=content, headers=JSON).status_code == 400


YAML = {
    "billion laughs": "a0: &a0 [1, 2]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    "merged": "a0: &a0 {k: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)),
    "itself": "profiles: &a [*a]",
    "deep": "[" * 200_000,
    "deep blocks": "- " * 200_000,
    "deep keys": "? " * 200_000,
    "wide": "{" + "a," * 1_000_000 + "}",
    "sixties": "a: " + ":".join(["59"] * 500_000),
    "digits": "a: " + "9" * 3_000_000,
    "directives": "".join(f"%TAG !{n:x}! x\n" for n in range(40_000)) + "---\na",
    "directives, other breaks": "".join(f"%TAG !{n:x}! x\r" for n in range(40_000)) + "---\ra",
    "objects": "!!python/object/apply:os.system ['id']",
    "documents": "--- a\n" * 100_000,
}


@pytest.mark.parametrize("bomb", sorted(YAML))
def test_yaml(world: World, bomb: str) -> None:
    """A deeply nested document would kill the process, and aliases would fill the memory."""
    with world.stays_responsive(2):
        answer = world.client("acme").post(
            "/v1/profiles:import", content=YAML[bomb], headers={"content-type": "application/yaml"}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_document")
    assert answer.elapsed.total_seconds() < 10


def test_a_large_body(world: World) -> None:
    """Refused by its announced length, or by its real length if none is announced; a false length does not help."""
    big = dumps(CHAT | user("x" * 5 * MIB))

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(big), 65_536):
            yield big[start : start + 65_536]

    for path in (
        "/v1/chat/completions",
        "/v1/profiles",
        "/v1/profiles:import",
        "/v1/admin/tenants",
        "/v1/feedback",
    ):
        client = world.client("operator")
        assert client.post(path, content=big, headers=JSON).status_code == 413
        assert client.post(path, content=pieces(), headers=JSON).status_code == 413
    assert world.client("acme").get("/v1/models").status_code == 200


def test_media_are_not_fetched(world: World) -> None:
    """The server never connects to an address in a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        urls = [
            f"http://127.0.0.1:{port}/x.png",
            f"https://127.0.0.1:{port}/x.png",
            "file:///etc/passwd",
            "data:,x",
        ]
        for url in urls:
            parts: list[dict[str, Any]] = [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "video_url", "video_url": {"url": url}},
                {"type": "audio_url", "audio_url": {"url": url}},
                {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
                {"type": "image_embeds", "image_embeds": "AAAA"},
                {"type": "file", "file": {"file_data": url}},
                {"image_url": url},
            ]
            for part in parts:
                assert world.ask("acme", **user([part])).status_code == 400, part
            claude = {"type": "image", "source": {"type": "url", "url": url}}
            assert world.ask("acme", "/v1/messages", **user([claude])).status_code == 400
            document = {"type": "document", "source": {"type": "url", "url": url}}
            assert world.ask("acme", "/v1/messages", **user([document])).status_code == 400
            image = {"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "low"}]}
            file = {"role": "user", "content": [{"type": "input_file", "file_url": url}]}
            for item in (image, file):
                body: dict[str, Any] = {"input": [item], "max_tokens": None}
                assert world.ask("acme", "/v1/responses", **body).status_code == 400
            remote = {"type": "mcp", "server_label": "x", "server_url": url, "require_approval": "never"}
            body = {"input": "hi", "tools": [remote], "max_tokens": None, "max_output_tokens": 1}
            assert world.ask("acme", "/v1/responses", **body).status_code in (200, 400)
            assert world.ask("acme", tools=[remote]).status_code == 400
        time.sleep(0.3)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/v1/completions", {"prompt_embeds": "AAAA"}),
        ("/v1/completions", {"prompt": "hi", "prompt_embeds": ["AAAA"]}),
        ("/v1/chat/completions", {"mm_processor_kwargs": {"a": 1}}),
        ("/v1/chat/completions", {"media_io_kwargs": {"image": {}}}),
        ("/v1/chat/completions", {"kv_transfer_params": {"remote_host": "127.0.0.1"}}),
        ("/v1/chat/completions", {"ec_transfer_params": {"remote_host": "127.0.0.1"}}),
        ("/v1/chat/completions", {"vllm_xargs": {"kv_transfer_params": "a"}}),
        ("/v1/chat/completions", {"vllm_xargs": {"any_extension": [1, 2]}}),
        ("/v1/completions", {"prompt": "hi", "vllm_xargs": {"any_extension": 1}}),
        ("/v1/responses", {"input": "hi", "vllm_xargs": {"any_extension": 1}}),
        ("/v1/chat/completions", {"priority": -10}),
    ],
)
def test_what_reaches_into_the_engine(world: World, path: str, changes: dict[str, Any]) -> None:
    assert world.ask("acme", path, **changes).status_code == 400


ODD_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-1", "1" + "0" * 400, '"1"', "true", "1e-400", "2.5"]


@pytest.mark.parametrize("number", ODD_NUMBERS)
@pytest.mark.parametrize(
    "field",
    ["temperature", "top_p", "n", "max_tokens", "seed", "top_k", "frequency_penalty", "repetition_penalty"],
)
def test_odd_numbers(world: World, field: str, number: str) -> None:
    """No number kills the engine: it is answered or gets a 400, and the next request works."""
    told = f'"model": "{MODEL}", "messages": [{{"role": "user", "content": "a"}}], "max_tokens": 2'
    content = f'{{{told}, "{field}": {number}}}'
    answer = world.client("acme").post("/v1/chat/completions", content=content, headers=JSON)
    assert answer.status_code in (200, 400), answer.text


def test_repeated_keys(world: World) -> None:
    """The last one counts, in the check and in the work."""
    told = b'"messages":[{"role":"system","content":"a"},{"role":"user","content":"a"}]'
    body = b'{"model":"%s","max_tokens":1,"messages":[],%s}' % (MODEL.encode(), told)
    assert (
        world.client("acme/inference").post("/v1/chat/completions", content=body, headers=JSON).status_code
        == 403
    )
    body = (
        b'{"model":"%s","max_tokens":1,"n":1,"n":100000,"messages":[{"role":"user","content":"a"}]}'
        % MODEL.encode()
    )
    assert world.client("acme").post("/v1/chat/completions", content=body, headers=JSON).status_code == 400


def test_slow_clients(world: World) -> None:
    """Connections that send little, or read nothing, do not lock others out."""
    address = urlsplit(world.server.url)
    assert address.hostname is not None
    assert address.port is not None
    key = world.keys["acme"].encode()
    beginnings = [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + key + b"\r\n"
        b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    ]
    held = []
    try:
        for number in range(60):
            connection = socket.create_connection((address.hostname, address.port))
            connection.sendall(beginnings[number % 2])
            held.append(connection)
        with world.stays_responsive(2):
            time.sleep(1)
    finally:
        for connection in held:
            connection.close()


def test_streams_that_are_never_read(world: World) -> None:
    """They hold no place in the engine, are bounded, and end; others are served meanwhile and afterwards."""
    body = CHAT | {"n": 64, "stream": True, "logprobs": True, "top_logprobs": 15, "max_tokens": 48}
    body |= {"ignore_eos": True, "temperature": 1}
    # Another tenant waits for one sequence at most, and these take as long as they do side by side.
    one = world.ask("acme", **body | {"stream": False}).elapsed.total_seconds()
    held = []
    try:
        for _ in range(3):
            held.append(_unread(world, "acme", body))
        with world.stays_responsive(2 * one + 2):
            time.sleep(3)
        # The engine has finished all of them, although nobody has read anything.
        deadline = time.monotonic() + 180
        while _running(world) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert _running(world) == 0
    finally:
        for connection in held:
            connection.close()
    with world.stays_responsive(2):
        time.sleep(1)


def _unread(world: World, who: str, body: dict[str, Any]) -> socket.socket:
    """Ask for a stream over a connection with small buffers, and read nothing of it."""
    address = urlsplit(world.server.url)
    content = dumps(body)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect((str(address.hostname), address.port or 0))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.keys[who]}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def _running(world: World) -> float:
    """Return how many sequences the engine works on."""
    metrics = world.client("operator").get("/metrics").text
    lines = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_slow_headers_end(world: World) -> None:
    """A connection that sends nothing, or never ends its header, is closed; one that waits for a long answer is not."""
    address = (str(urlsplit(world.server.url).hostname), urlsplit(world.server.url).port or 0)
    key = world.keys["acme"]
    body = dumps(CHAT | {"max_tokens": 1})
    whole = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    started = time.monotonic()
    held = [socket.create_connection(address, timeout=HEADER_SECONDS + 10) for _ in range(3)]
    try:
        held[1].sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        held[2].sendall(
            whole + b"GET /livez HTTP/1.1\r\nX-Slow: "
        )  # the next request begins behind a whole one
        assert b"200 OK" in held[2].recv(65536)
        for connection in held:
            while connection.recv(65536):
                pass
            assert HEADER_SECONDS - 1 < time.monotonic() - started < HEADER_SECONDS + 9
    finally:
        for connection in held:
            connection.close()


def test_a_header_without_end(world: World) -> None:
    address = (str(urlsplit(world.server.url).hostname), urlsplit(world.server.url).port or 0)
    sent = 0
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Long: ")
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            while sent < 50_000_000:
                sent += connection.send(b"x" * 65536)
    assert sent < 5_000_000  # what the two machines' buffers hold
    assert httpx.get(f"{world.server.url}/livez", timeout=10).status_code == 200


def test_cancelled_requests_give_back_their_place(world: World) -> None:
    """A client that abandons more requests than the engine has slots for does not exhaust it."""
    body = CHAT | {"max_tokens": 1900, "ignore_eos": True}
    address = urlsplit(world.server.url)
    for number in range(90):
        content = dumps(body | {"stream": bool(number % 2)})
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.keys['acme']}\r\n"
        )
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        with socket.create_connection((str(address.hostname), address.port or 0)) as connection:
            connection.sendall(head.encode() + content)
            if number % 3:
                time.sleep(0.02)
    with world.stays_responsive(5):
        time.sleep(1)
    assert world.ask("acme").status_code == 200
