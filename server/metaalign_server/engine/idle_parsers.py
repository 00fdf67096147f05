"""Streams without tools and reasoning do without vLLM's parser, which has nothing to find in them.

For each token the parser copies the whole answer so far, as text and as ids, looks for a call, and then passes the
token's text on as it is. A long answer costs it more per token than a short one. Whatever can hold a call or reasoning
is parsed as before.
"""

from __future__ import annotations

from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.abstract_parser import DelegatingParser

from metaalign_server.engine.chunks import Text

__all__ = ["skip_idle_parsers"]

_METHODS = ("parse_delta", "_extract_tool_calls_streaming", "finalize_generation", "_flush_engine_parsers")
"""What decides about a delta; a parser that does one of these in its own way is not idle."""


def _is_idle(parser: Any, request: ChatCompletionRequest) -> bool:
    """Whether `parser` passes every text of this request's answer on as it is."""
    kind = type(parser)
    if not isinstance(parser, DelegatingParser) or request.tool_choice != "none":
        return False
    if any(getattr(kind, name) is not getattr(DelegatingParser, name) for name in _METHODS):
        return False
    engines = parser._engine_based or getattr(parser._tool_parser, "engine_based_streaming", False)
    # Without `include_reasoning` vLLM writes that there is none.
    return parser._reasoning_parser is None and not engines and request.include_reasoning


def _passed_on(delta_text: str, *_: object, **__: object) -> Text | None:
    return Text(delta_text) if delta_text else None


def _parsed(parser: Any, request: ChatCompletionRequest) -> list[dict[str, Any] | None]:
    """What a stream of several kinds of deltas becomes."""
    texts = ["An", "", ' "Ä', "<tool_call>", '{"name": "f"}', "</tool_call>", "\n", ""]
    made = [
        parser.parse_delta(text, [place], request, [1], finished=place == len(texts) - 1)
        for place, text in enumerate(texts)
    ]
    models = [delta.model() if isinstance(delta, Text) else delta for delta in made]
    return [None if delta is None else delta.model_dump(exclude_unset=True) for delta in models]


def skip_idle_parsers(handler: Any) -> bool:
    """Let a chat handler of vLLM's pass texts on; return False if its parser would make something else of them.

    What is passed on fits into `chunks.Choice` only, so `chunks.write_chunks_as_text` comes first.
    """
    if handler.parser_cls is None:
        return True
    stock = handler._make_parser

    def make(request: ChatCompletionRequest, *options: Any) -> Any:
        parser = stock(request, *options)
        if _is_idle(parser, request):
            parser.parse_delta = _passed_on
        return parser

    request = ChatCompletionRequest(messages=[{"role": "user", "content": "a question"}])
    options = (handler.renderer.tokenizer, None)
    try:
        if not _is_idle(stock(request, *options), request):
            return True
        same = _parsed(make(request, *options), request) == _parsed(stock(request, *options), request)
    except Exception:  # noqa: BLE001 - any error: it is not the parser that this was written for
        return False
    if same:
        handler._make_parser = make
    return same
