"""Run by `tests/clients/run.py` in an environment that has other projects' clients: python other_projects.py URL.

Each asks with preferences as docs/clients.md shows, streams, reads the receipt back as far as it keeps one,
and raises its own exception with our message; LangChain is given a schema, for which it forces a call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import metaalign
from metaalign.foreign import ReceiptTrace

QUERY = "What does a fox eat?"
PREFERENCES = {"system": {"attributes": {"tone": "pirate"}}, "user": {"attributes": {"tone": "formal"}}}
ANSWER = "Ahoy! The fox eats mice. The fox weighs about 6 kilograms. Arr, matey!"
WRONG = {"sytem": "Answer like a pirate."}
TOLD = "preferences.sytem: unknown key"


def langchain(url: str) -> None:
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    from metaalign.langchain import extra, receipt

    class Food(BaseModel):
        """What an animal eats."""

        food: str
        kilos: int

    own = {
        "base_url": url,
        "api_key": "unused",
        "model": "metaalign-demo",
        "temperature": 0,
        "max_retries": 0,
    }
    answer = ChatOpenAI(include_response_headers=True, **own, **extra(PREFERENCES)).invoke(QUERY)
    assert answer.content == ANSWER, answer
    trace = receipt(answer)
    assert isinstance(trace, ReceiptTrace), trace
    assert (trace.applied, trace.overridden) == (True, 1)
    bare = receipt(ChatOpenAI(**own, **extra(PREFERENCES)).invoke(QUERY))
    assert isinstance(bare, ReceiptTrace), bare
    assert trace.spec_hash.startswith(bare.spec_hash)
    assert "".join(part.content for part in ChatOpenAI(**own, **extra(PREFERENCES)).stream(QUERY)) == ANSWER
    forced = ChatOpenAI(**own).with_structured_output(Food, method="function_calling")
    assert isinstance(forced.invoke(QUERY), Food)
    refused(lambda: ChatOpenAI(**own, **extra(WRONG)).invoke(QUERY))


def litellm(url: str) -> None:
    import litellm as client

    from metaalign.litellm import extra, receipt

    own = {
        "model": "openai/metaalign-demo",
        "api_base": url,
        "api_key": "unused",
        "temperature": 0,
        "max_retries": 0,
    }
    own["messages"] = [{"role": "user", "content": QUERY}]
    answer = client.completion(**own, **extra(PREFERENCES))
    assert answer.choices[0].message.content == ANSWER, answer
    whole = receipt(answer)
    assert isinstance(whole, metaalign.Receipt), whole
    assert whole.overridden[0].kept == "pirate"
    parts = client.completion(stream=True, **own, **extra(PREFERENCES))
    assert "".join(part.choices[0].delta.content or "" for part in parts) == ANSWER
    refused(lambda: client.completion(**own, **extra(WRONG)))


def pydantic_ai(url: str) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from metaalign.pydantic_ai import extra

    model = OpenAIChatModel("metaalign-demo", provider=OpenAIProvider(base_url=url, api_key="unused"))
    settings = {"temperature": 0, **extra(PREFERENCES)}
    assert Agent(model).run_sync(QUERY, model_settings=settings).output == ANSWER
    refused(lambda: Agent(model).run_sync(QUERY, model_settings=extra(WRONG)))


def refused(ask: Callable[[], object]) -> None:
    """The client raises an exception of its own, with our message."""
    raised: Exception | None = None
    try:
        ask()
    except Exception as error:  # noqa: BLE001 - each project has its own
        raised = error
    assert raised is not None
    assert TOLD in str(raised), raised
    assert not type(raised).__module__.startswith("metaalign"), raised


if __name__ == "__main__":
    for client in (langchain, litellm, pydantic_ai):
        client(sys.argv[1])
        sys.stdout.write(f"{client.__name__}: preferences, stream, receipt and error as documented\n")
