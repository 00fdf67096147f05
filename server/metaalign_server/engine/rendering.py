"""The hook in vLLM's rendering: it assembles every prompt of every protocol, tiers first.

All of vLLM's handlers render through one `OnlineRenderer`. It gets a copy of the engine's renderer with our
`render_messages_async`; the engine's own renderer stays unchanged. The route passes its context through
`current_request`, because the handlers rebuild requests on the way (Anthropic's drops unknown fields).
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from vllm.exceptions import VLLMValidationError
from vllm.renderers.chat_utils import has_non_text_content, parse_chat_messages_async
from vllm.renderers.hf import HfRenderer, resolve_chat_template_content_format
from vllm.renderers.online_renderer import OnlineRenderer

from metaalign import InvalidPrompt, InvalidTemplate, RefusedField, SystemTierForbidden
from metaalign.prompt import ChatTemplate, Prompt, PromptAssembler
from metaalign_server.alignment.aligner import NO_TIERS, Aligner, AppliedBranch, AppliedSpec
from metaalign_server.alignment.context import RequestContext, SteeredPrompt, current_request
from metaalign_server.callers import Caller
from metaalign_server.engine.defects import our_code

__all__ = [
    "build_assembler",
    "install_renderer",
    "ordinary_text",
    "render_conversation",
    "render_responsively",
]

T = TypeVar("T")

_SYSTEM_ROLES = ("system", "developer")
_INLINE_CHARACTERS = 16_384
"""Tokenising longer texts takes milliseconds, half a second for a megabyte, so it runs outside the event loop."""
_OUR_TEMPLATE_VARIABLES = ("chat_template", "return_dict", "tokenize")


def build_assembler(online_renderer: OnlineRenderer) -> PromptAssembler:
    """Build the assembler for the served checkpoint.

    Raises:
        InvalidTemplate: the checkpoint cannot be served with preferences; the message is one line with the reason.
    """
    renderer = online_renderer.renderer
    if online_renderer.use_harmony or not isinstance(renderer, HfRenderer):
        raise InvalidTemplate(
            "model: its prompts are not made by a Jinja chat template (Harmony or Mistral format), so tiers cannot be"
            " applied; serve a checkpoint with a chat template"
        )
    tokenizer = renderer.get_tokenizer()
    template = None
    if online_renderer.chat_template is not None:
        special = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        template = ChatTemplate(online_renderer.chat_template, special)
    return PromptAssembler.from_tokenizer(tokenizer, template)


def install_renderer(online_renderer: OnlineRenderer, aligner: Aligner) -> None:
    """Route all rendering of `online_renderer` through `aligner`."""
    hook = _Hook(online_renderer, aligner)
    tokenizer: Any = online_renderer.renderer.get_tokenizer()
    aligner.most_characters = online_renderer.model_config.max_model_len * tokenizer.max_chars_per_token
    renderer = copy.copy(online_renderer.renderer)
    renderer.render_messages_async = hook.render_messages  # type: ignore[method-assign]
    online_renderer.renderer = renderer
    online_renderer.preprocess_completion = hook.preprocess_completion  # type: ignore[method-assign]


def _content_text(content: object) -> str:
    """Return the text of a message; parts are joined with line breaks, as in our template."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
    return ""


async def render_responsively(
    aligner: Aligner, context: RequestContext, conversation: Sequence[Mapping[str, Any]], **options: Any
) -> Prompt:
    """Run `render_conversation`, in a thread if the conversation is long.

    Raises:
        VLLMValidationError: the conversation exceeds the model's context; or see `render_conversation`.
    """
    characters = _measure(aligner, conversation, options)
    with our_code():
        return await _beside(
            characters, lambda: render_conversation(aligner, context, conversation, **options)
        )


async def _beside(characters: int, work: Callable[[], T]) -> T:
    return work() if characters <= _INLINE_CHARACTERS else await asyncio.to_thread(work)


def render_conversation(
    aligner: Aligner, context: RequestContext, conversation: Sequence[Mapping[str, Any]], **options: Any
) -> Prompt:
    """Place the tiers before the dialogue and tokenise both.

    Args:
        aligner: Applies preferences for the served checkpoint.
        context: The request; `applied` is set on it.
        conversation: Messages as the client sent them, system messages included.
        **options: Options of `PromptAssembler.assemble`.

    Raises:
        SystemTierForbidden: the key lacks the scope `system`, but a system message is present, or other text that
            the checkpoint's template writes into its system turn.
        InvalidPrompt: the template refuses the conversation.
    """
    assembler = aligner.assembler
    system: list[str] = []
    user_info: list[str] = []
    dialogue: list[Mapping[str, Any]] = []
    for message in conversation:
        role = message["role"]
        if role in _SYSTEM_ROLES:
            system.append(_content_text(message.get("content")))
        elif role == "user_info":
            user_info.append(_content_text(message.get("content")))
        else:
            dialogue.append(message)
    if system and not context.caller.may_write_system:
        raise SystemTierForbidden(
            "messages: this key lacks the scope `system` and may not send system messages", param="messages"
        )
    as_sent = not context.aligned and not assembler.cuttable  # a foreign template decides for itself
    _check_system_turn(assembler, context.caller, conversation if as_sent else dialogue, options)
    if as_sent:
        return assembler.assemble(conversation, **options)
    applied = context.applied = aligner.apply(context.preferences, system, user_info, context.stored)
    if context.recording is not None:
        texts = [{"role": m["role"], "content": _content_text(m.get("content"))} for m in dialogue]
        context.recording.messages = (*applied.messages, *texts)
    rest = assembler.assemble(dialogue, **options) if assembler.cuttable else None

    def place(tiers: AppliedSpec | AppliedBranch) -> Prompt:
        if rest is None:
            return assembler.assemble([*tiers.messages, *dialogue], **options)
        return Prompt(tiers.prefix_text + rest.text, tiers.prefix_ids + rest.token_ids, rest.cut)

    prompt = place(applied)
    if applied.steered:
        context.steered[prompt.token_ids] = SteeredPrompt(
            tuple((place(branch).token_ids, branch.coefficient) for branch in applied.followers),
            place(NO_TIERS).token_ids if applied.candidates > 1 else (),
        )
    return prompt


def _check_system_turn(
    assembler: PromptAssembler,
    caller: Caller,
    conversation: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
) -> None:
    """Refuse what would give System text to a key without the scope `system`, in the way of this template.

    Raises:
        SystemTierForbidden: as said.
    """
    if caller.may_write_system:
        return
    _check_text_marker(assembler, "messages")
    named = {name: name for name, value in options.items() if value}
    named |= {message["role"]: "messages" for message in conversation}
    for name, param in named.items():
        if name in assembler.system_sources:
            what = name if param == name else f"messages of the role `{name}`"
            raise SystemTierForbidden(
                f"{param}: this checkpoint's chat template writes {what} into its system turn; use a key with the scope"
                " `system`, or leave them out",
                param=param,
            )


def ordinary_text(marker: str) -> str:
    """Describe what marks a role, for a message."""
    return f"ordinary text, {marker!r}" if marker else "something that the checks at the start cannot see"


def _check_text_marker(assembler: PromptAssembler, param: str) -> None:
    """Refuse a key without the scope `system` where any text can write a role.

    Raises:
        SystemTierForbidden: the checkpoint marks roles by ordinary text.
    """
    if (marker := assembler.text_marker) is not None:
        raise SystemTierForbidden(
            f"{param}: this checkpoint marks a role by {ordinary_text(marker)}, which any text can contain; use a key"
            " with the scope `system`",
            param=param,
        )


class _Hook:
    def __init__(self, online_renderer: OnlineRenderer, aligner: Aligner) -> None:
        self._aligner = aligner
        self._model_config = online_renderer.model_config
        self._tokenizer: Any = online_renderer.renderer.get_tokenizer()
        self._stock_completion = online_renderer.preprocess_completion

    async def render_messages(self, messages: list[Any], params: Any) -> tuple[list[Any], Any]:
        """Replace `HfRenderer.render_messages_async`: return the conversation and a prompt of token ids."""
        context = current_request.get() or RequestContext()
        options = params.get_apply_chat_template_kwargs()
        _measure(self._aligner, messages, options)
        if has_non_text_content(messages):
            raise RefusedField(
                "messages: only text is accepted; images, audio, video and embeddings are refused",
                param="messages",
            )
        conversation, _, _ = await parse_chat_messages_async(
            messages,
            self._model_config,
            content_format=resolve_chat_template_content_format(
                chat_template=params.chat_template,
                tools=params.chat_template_kwargs.get("tools"),
                given_format=params.chat_template_content_format,
                tokenizer=self._tokenizer,
                model_config=self._model_config,
            ),
        )
        for name in _OUR_TEMPLATE_VARIABLES:
            options.pop(name, None)
        prompt = await render_responsively(
            self._aligner, context, conversation, add_special_tokens=context.add_special_tokens, **options
        )
        return conversation, {"prompt_token_ids": list(prompt.token_ids), "prompt": prompt.text}

    async def preprocess_completion(
        self, request: Any, prompt_input: Any, prompt_embeds: Any, *, skip_mm_cache: bool = False
    ) -> Any:
        """Replace `OnlineRenderer.preprocess_completion`.

        With preferences, a text prompt is the User Query; without, it is raw text, as the protocol specifies. A key
        without the scope `system` cannot write control tokens into raw text.
        """
        context = current_request.get() or RequestContext()
        prompts = prompt_input
        for prompt in _as_list(prompt_input) if prompt_input is not None else ():
            if isinstance(prompt, str):
                _measure(self._aligner, prompt)
        if context.aligned:
            prompts = [await self._as_query(context, text) for text in _text_prompts(request, prompt_input)]
        elif not context.caller.may_write_system and prompt_input is not None:
            prompts = [await self._without_control(prompt) for prompt in _as_list(prompt_input)]
        return await self._stock_completion(request, prompts, prompt_embeds, skip_mm_cache=skip_mm_cache)

    async def _as_query(self, context: RequestContext, text: str) -> list[int]:
        query = [{"role": "user", "content": text}]
        prompt = await render_responsively(self._aligner, context, query, add_generation_prompt=True)
        return list(prompt.token_ids)

    async def _without_control(self, prompt: str | list[int]) -> list[int]:
        assembler = self._aligner.assembler
        _check_text_marker(assembler, "prompt")
        if isinstance(prompt, str):
            text = prompt
            with our_code():
                return await _beside(len(text), lambda: assembler.encode_text(text, control=False))
        if assembler.has_control(prompt):
            raise SystemTierForbidden(
                "prompt: this key lacks the scope `system` and may not send control tokens", param="prompt"
            )
        return prompt


def _measure(aligner: Aligner, *outside: Any) -> int:
    """Count the characters of a request; refuse it before tokenisation if it cannot fit.

    Raises:
        VLLMValidationError: same as vLLM's own check, which our prompts of token ids bypass.
    """
    most = aligner.most_characters
    found = _characters(outside, most)
    if most is not None and found > most:
        raise VLLMValidationError(
            "This model's maximum context length is exceeded: the request holds more than"
            f" {most} characters, which can never fit. Please reduce its length.",
            parameter="input_text",
        )
    return found


def _characters(outside: Any, most: int | None) -> int:
    """Count the characters of all texts in a tree, stopping above `most`; any other value counts as one."""
    found, stack = 0, [outside]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            stack.extend(value)
            stack.extend(value.values())
        elif isinstance(value, (list, tuple)):
            stack.extend(value)
        else:
            found += len(value) if isinstance(value, str) else 1
            if most is not None and found > most:
                break
    return found


def _as_list(prompt: Any) -> list[Any]:
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and isinstance(prompt[0], int)):
        return [prompt]
    return list(prompt)


def _text_prompts(request: Any, prompt: Any) -> list[str]:
    prompts = _as_list(prompt) if prompt is not None else []
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise InvalidPrompt("prompt: with `preferences` it must be text, not token ids", param="prompt")
    for name in ("echo", "suffix", "prompt_embeds"):
        if getattr(request, name, None):
            raise InvalidPrompt(f"{name}: not available together with `preferences`", param=name)
    return prompts
