"""One real engine per test session, serving our application and stock vLLM's side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.processes import Server, free_port, running
from tests.server.twin import KEY, USER_KEY

MODEL = "metaalign-demo"


@dataclass(frozen=True)
class Twin:
    """Both applications on one engine."""

    server: Server
    url: str
    stock_url: str


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    port, stock_port = free_port(), free_port()
    folder = tmp_path_factory.mktemp("server")
    url, store = f"http://127.0.0.1:{port}", f"sqlite:///{folder}/store.db"
    command = ["-m", "tests.server.twin", str(port), str(stock_port), store]
    with running(command, url, folder / "twin.log") as server:
        yield Twin(server, url, f"http://127.0.0.1:{stock_port}")


@pytest.fixture(scope="session")
def client(twin: Twin) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{twin.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture(scope="session")
def stock(twin: Twin) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{twin.stock_url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="session")
def claude(twin: Twin) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=twin.url, api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture(scope="session")
def http(twin: Twin) -> Iterator[httpx.Client]:
    """Raw HTTP with the key that may do everything."""
    with httpx.Client(base_url=twin.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as made:
        yield made


@pytest.fixture(scope="session")
def user_http(twin: Twin) -> Iterator[httpx.Client]:
    """Raw HTTP with a key that lacks the scope `system`."""
    with httpx.Client(base_url=twin.url, headers={"x-api-key": USER_KEY}, timeout=60) as made:
        yield made


def ask(client: openai.OpenAI, query: str, preferences: Any = None, **options: Any) -> str:
    """One greedy answer."""
    extra = {} if preferences is None else {"extra_body": {"preferences": preferences}}
    create: Any = client.chat.completions.create
    completion = create(
        model=MODEL,
        messages=[{"role": "user", "content": query}],
        temperature=0,
        max_completion_tokens=options.pop("max_completion_tokens", 120),
        **extra,
        **options,
    )
    return str(completion.choices[0].message.content or "")
