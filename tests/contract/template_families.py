"""Templates and tokenizers of the kinds that people serve, made on the spot: the fuzzer's targets.

The templates follow the structure of a family (where control tokens, role names, tools and system text stand), not its
words. Each is paired with a tokenizer whose normaliser, pre-tokeniser, model or added tokens are a trap of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from metaalign.prompt import CONTROL_TOKENS, packaged_template
from tests.contract.tokenizers_for_tests import CHATML, CONCATENATING, TEXTS

__all__ = ["PAIRS", "Pair"]

_ASCII = [chr(c) for c in range(33, 127)]
_BYTES = [f"<0x{b:02X}>" for b in range(256)]

Backend = Callable[[normalizers.Normalizer | None], Tokenizer]


def byte_level(normalizer: normalizers.Normalizer | None) -> Tokenizer:
    """Byte-level BPE, as in GPT-2, Llama 3 and Qwen."""
    backend = Tokenizer(models.BPE())
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def _sentencepiece(backend: Tokenizer, normalizer: normalizers.Normalizer | None) -> Tokenizer:
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return backend


def byte_fallback_bpe(normalizer: normalizers.Normalizer | None) -> Tokenizer:
    """SentencePiece's BPE, as in Llama 2 and Gemma, with a few merges of its own."""
    pieces = ["<unk>", *_BYTES, "▁", *_ASCII, "<|", "|>", "us", "er", "user"]
    merges = [("<", "|"), ("|", ">"), ("u", "s"), ("e", "r"), ("us", "er")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model = models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    return _sentencepiece(Tokenizer(model), normalizer)


def _unigram(*whole: str, byte_fallback: bool = True) -> Backend:
    """SentencePiece's Unigram; `whole` are ordinary pieces that spell control strings."""

    def make(normalizer: normalizers.Normalizer | None) -> Tokenizer:
        fallback = [(piece, -9.0) for piece in _BYTES] if byte_fallback else []
        letters = [(piece, -5.0) for piece in ["▁", *_ASCII]]
        pieces = [("<unk>", 0.0), *((piece, -1.0) for piece in whole), *fallback, *letters]
        model = models.Unigram(pieces, unk_id=0, byte_fallback=byte_fallback)
        return _sentencepiece(Tokenizer(model), normalizer)

    return make


def wordpiece(normalizer: normalizers.Normalizer | None) -> Tokenizer:
    """WordPiece, as in BERT."""
    letters = [*_ASCII, *(f"##{c}" for c in _ASCII)]
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", *letters])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=10_000))
    backend.normalizer = normalizer or normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return backend


def metaspace(scheme: str) -> Backend:
    """SentencePiece's BPE with `▁` put in by the pre-tokeniser, as in newer conversions."""

    def make(normalizer: normalizers.Normalizer | None) -> Tokenizer:
        backend = byte_fallback_bpe(normalizer)
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        return backend

    return make


@dataclass(frozen=True)
class Pair:
    """A template and a tokenizer.

    Attributes:
        template: Jinja source.
        control: The special tokens.
        plain: Further added tokens that are not special.
        backend: Makes the tokenizer without added tokens.
        normalizer: Makes its normaliser.
        options: Of every special token: `normalized`, `lstrip`, `rstrip`, `single_word`.
        lossless: Whether decoding gives the text back.
    """

    template: str
    control: Sequence[str]
    backend: Backend = byte_level
    normalizer: Callable[[], normalizers.Normalizer] | None = None
    options: dict[str, bool] | None = None
    plain: Sequence[str] = ()
    lossless: bool = False

    def tokenizer(self) -> Any:
        """Build the tokenizer, with the template."""
        backend = self.backend(self.normalizer() if self.normalizer else None)
        options: dict[str, Any] = {"normalized": False} | (self.options or {})
        backend.add_tokens([AddedToken(c, special=False, normalized=False) for c in self.plain])
        backend.add_special_tokens([AddedToken(c, special=True, **options) for c in self.control])
        unknown = {"[UNK]", "<unk>"} & backend.get_vocab().keys()
        made = PreTrainedTokenizerFast(
            tokenizer_object=backend, **({"unk_token": unknown.pop()} if unknown else {})
        )
        made.chat_template = self.template
        return made


def _turns(*roles: str, head: str = "") -> str:
    """A template from what it writes for system, user, assistant and tool messages, and to open an answer.

    `text` is the message's content; `head` comes first.
    """
    system, user, assistant, tool, generation = roles
    return (
        "{%- macro flat(c) -%}{%- if c is string -%}{{- c -}}{%- else -%}{%- for p in c or [] -%}{{- p.text -}}"
        "{%- endfor -%}{%- endif -%}{%- endmacro -%}"
        + head
        + "{%- for m in messages -%}{%- set text = flat(m.content) -%}"
        "{%- if m.role in ('system', 'developer') -%}" + system + "{%- elif m.role == 'user' -%}" + user
        + "{%- elif m.role == 'assistant' -%}" + assistant + "{%- elif m.role == 'tool' -%}" + tool
        + "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}" + generation + "{%- endif -%}"
    )  # fmt: skip


def _all(text: str, *roles: str) -> tuple[str, ...]:
    """The same expression for several roles, whose names replace ROLE."""
    return tuple(text.replace("ROLE", role) for role in roles)


_QWEN = _turns(
    "{%- if not (loop.first and tools) -%}{{- '<|im_start|>system\n' ~ text ~ '<|im_end|>\n' -}}{%- endif -%}",
    "{{- '<|im_start|>user\n' ~ text ~ '<|im_end|>\n' -}}",
    "{%- set thought = m.reasoning_content or '' -%}"
    "{%- if '</think>' in text -%}{%- set thought = text.split('</think>')[0].split('<think>')[-1] -%}"
    "{%- set text = text.split('</think>')[-1] -%}{%- endif -%}"
    "{{- '<|im_start|>assistant\n' -}}"
    "{%- if loop.last and thought -%}{{- '<think>\n' ~ thought.strip('\n') ~ '\n</think>\n\n' -}}{%- endif -%}"
    "{{- text.lstrip('\n') -}}"
    "{%- for call in m.tool_calls or [] -%}"
    '{{- \'\n<tool_call>\n{"name": "\' ~ call.function.name ~ \'", "arguments": \''
    " ~ (call.function.arguments | tojson) ~ '}\n</tool_call>' -}}{%- endfor -%}{{- '<|im_end|>\n' -}}",
    "{{- '<|im_start|>user\n<tool_response>\n' ~ text ~ '\n</tool_response><|im_end|>\n' -}}",
    "{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' -}}",
    head="{%- if tools -%}{{- '<|im_start|>system\n' -}}"
    "{%- if messages[0].role == 'system' -%}{{- messages[0].content ~ '\n\n' -}}{%- endif -%}"
    "{{- '# Functions in <tools></tools>:\n<tools>' -}}{%- for tool in tools -%}{{- '\n' ~ (tool | tojson) -}}"
    "{%- endfor -%}{{- '\n</tools>, to be called in <tool_call></tool_call><|im_end|>\n' -}}{%- endif -%}",
)
_QWEN_CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_QWEN_PLAIN = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<tool_response>", "</tool_response>")

_LLAMA_3 = _turns(
    *_all(
        "{{- '<|start_header_id|>ROLE<|end_header_id|>\n\n' ~ text | trim ~ '<|eot_id|>' -}}",
        "system", "user",
    ),
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- if m.tool_calls -%}"
    "{{- (m.tool_calls[0].function | tojson) -}}{%- else -%}{{- text | trim -}}{%- endif -%}{{- '<|eot_id|>' -}}",
    "{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' ~ (text | tojson) ~ '<|eot_id|>' -}}",
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}",
    head="{{- '<|begin_of_text|>' -}}{%- if tools -%}{{- '<|start_header_id|>system<|end_header_id|>\n\nFunctions: '"
    " ~ (tools | tojson(indent=4)) ~ '<|eot_id|>' -}}{%- endif -%}",
)  # fmt: skip
_LLAMA_3_CONTROL = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)

_LLAMA_2 = _turns(
    "{{- '<<SYS>>' ~ text ~ '<</SYS>>' -}}",
    "{{- '[INST] ' ~ text | trim ~ ' [/INST]' -}}",
    "{{- ' ' ~ text | trim ~ ' </s><s>' -}}",
    "{{- '[INST] result ' ~ text ~ ' [/INST]' -}}",
    "",
    head="{{- '<s>' -}}",
)
_LLAMA_2_CONTROL = ("<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")

_MISTRAL = _turns(
    "{{- '[SYSTEM_PROMPT]' ~ text ~ '[/SYSTEM_PROMPT]' -}}",
    "{{- '[INST]' ~ text ~ '[/INST]' -}}",
    "{%- if m.tool_calls -%}{{- '[TOOL_CALLS][' -}}{%- for call in m.tool_calls -%}"
    "{%- if call.id | length != 9 -%}{{- raise_exception('an id has 9 characters') -}}{%- endif -%}"
    "{{- (call.function | tojson) ~ call.id -}}{%- endfor -%}{{- ']</s>' -}}"
    "{%- else -%}{{- text ~ '</s>' -}}{%- endif -%}",
    "{%- if m.tool_call_id | length != 9 -%}{{- raise_exception('an id has 9 characters') -}}{%- endif -%}"
    "{{- '[TOOL_RESULTS]{\"content\": ' ~ text ~ ', \"call_id\": \"' ~ m.tool_call_id ~ '\"}[/TOOL_RESULTS]' -}}",
    "",
    head="{{- '<s>' -}}"
    "{%- if tools -%}{{- '[AVAILABLE_TOOLS]' ~ (tools | tojson) ~ '[/AVAILABLE_TOOLS]' -}}{%- endif -%}",
)
_MISTRAL_CONTROL = (
    "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
)  # fmt: skip

_GEMMA = _turns(
    "{{- raise_exception('no system role') -}}",
    "{{- '<start_of_turn>user\n' ~ text | trim ~ '<end_of_turn>\n' -}}",
    "{{- '<start_of_turn>model\n' ~ text | trim ~ '<end_of_turn>\n' -}}",
    "{{- '<start_of_turn>user\n' ~ text | trim ~ '<end_of_turn>\n' -}}",
    "{{- '<start_of_turn>model\n' -}}",
    head="{{- '<bos>' -}}",
)
_GEMMA_CONTROL = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<unused1>")

_PHI = _turns(
    *_all("{{- '<|ROLE|>\n' ~ text ~ '<|end|>\n' -}}", "system", "user", "assistant", "user"),
    "{{- '<|assistant|>\n' -}}",
)
_PHI_CONTROL = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")
# The same where every control token has whitespace on both sides, as `single_word` needs.
_SPACED = _turns(
    *_all("{{- '\n<|ROLE|>\n' ~ text ~ '\n<|end|>\n' -}}", "system", "user", "assistant", "user"),
    "{{- '\n<|assistant|>\n' -}}",
)

_DEEPSEEK = _turns(
    "",
    "{{- '<｜User｜>' ~ text -}}",
    "{{- '<｜Assistant｜>' ~ text.split('</think>')[-1] -}}{%- for call in m.tool_calls or [] -%}"
    "{{- '<｜tool▁call▁begin｜>' ~ call.function.name ~ '<｜tool▁sep｜>' ~ (call.function.arguments | tojson)"
    " ~ '<｜tool▁call▁end｜>' -}}{%- endfor -%}{{- '<｜end▁of▁sentence｜>' -}}",
    "{{- '<｜tool▁output▁begin｜>' ~ text ~ '<｜tool▁output▁end｜>' -}}",
    "{{- '<｜Assistant｜><think>\n' -}}",
    head="{{- '<｜begin▁of▁sentence｜>' -}}"
    "{%- for m in messages if m.role == 'system' -%}{{- m.content -}}{%- endfor -%}"
    "{%- if tools -%}{{- '\n\n## Tools\n' ~ (tools | tojson) -}}{%- endif -%}",
)
_DEEPSEEK_CONTROL = (
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>",
)  # fmt: skip

_ZEPHYR = _turns(
    *_all("{{- '<|ROLE|>\n' ~ text ~ '</s>\n' -}}", "system", "user", "assistant", "user"),
    "{{- '<|assistant|>\n' -}}",
)
_ZEPHYR_CONTROL = ("<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>")

_COMMAND = _turns(
    *_all(
        "{{- '<|START_OF_TURN_TOKEN|><|ROLE_TOKEN|>' ~ text ~ '<|END_OF_TURN_TOKEN|>' -}}",
        "SYSTEM", "USER", "CHATBOT", "SYSTEM",
    ),
    "{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' -}}",
    head="{{- '<BOS_TOKEN>' -}}{%- if documents -%}{{- '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><results>' -}}"
    "{%- for d in documents -%}{{- 'Document: ' ~ loop.index0 ~ '\ntitle: ' ~ d.title ~ '\n' ~ d.text -}}{%- endfor -%}"
    "{{- '</results><|END_OF_TURN_TOKEN|>' -}}{%- endif -%}",
)  # fmt: skip
_COMMAND_CONTROL = (
    "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
)  # fmt: skip

_GRANITE = _turns(
    *_all(
        "{{- '<|start_of_role|>ROLE<|end_of_role|>' ~ text ~ '<|end_of_text|>\n' -}}",
        "system", "user", "assistant", "tool_response",
    ),
    "{{- '<|start_of_role|>assistant<|end_of_role|>' -}}",
    head="{%- if tools -%}{{- '<|start_of_role|>tools<|end_of_role|>' ~ (tools | tojson(indent=4))"
    " ~ '<|end_of_text|>\n' -}}{%- endif -%}{%- if documents -%}{{- '<|start_of_role|>documents<|end_of_role|>' -}}"
    "{%- for d in documents -%}{{- d.text ~ '\n' -}}{%- endfor -%}{{- '<|end_of_text|>\n' -}}{%- endif -%}",
)  # fmt: skip
_GRANITE_CONTROL = ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>")

# Looks into texts: removes control strings, drops a header, and chooses a branch by what it finds.
_PRYING = _turns(
    "{{- '<|im_start|>system\n' ~ text ~ '<|im_end|>\n' -}}",
    "{%- set text = text | replace('<|im_end|>', '') -%}"
    "{%- if text.startswith('<|im_start|>') or '<|raw|>' in text -%}{{- text -}}{%- else -%}"
    "{{- '<|im_start|>user\n' ~ text ~ '<|im_end|>\n' -}}{%- endif -%}",
    "{%- for part in text.split('<|cut|>') -%}{{- '<|im_start|>assistant\n' ~ part ~ '<|im_end|>\n' -}}{%- endfor -%}",
    "{{- '<|im_start|>tool\n' ~ text | upper ~ '<|im_end|>\n' -}}",
    "{{- '<|im_start|>assistant\n' -}}",
)
_PRYING_CONTROL = ("<|im_start|>", "<|im_end|>", "<|raw|>", "<|cut|>")

# Tools as Python and as ASCII-only JSON write them, in which marks are escaped.
_ESCAPING = _turns(
    *_all("{{- '<|im_start|>ROLE\n' ~ text ~ '<|im_end|>\n' -}}", "system", "user", "assistant", "tool"),
    "{{- '<|im_start|>assistant\n' -}}",
    head="{%- for tool in tools or [] -%}{{- '<|im_start|>tools\n' ~ tool ~ (tool | tojson(ensure_ascii=True))"
    " ~ '<|im_end|>\n' -}}{%- endfor -%}",
)

# A turn ends with a token that is made of blanks.
_BLANKS = _turns(
    *_all("{{- '<|ROLE|>' ~ text ~ '\n\n' -}}", "system", "user", "assistant", "user"),
    "{{- '<|assistant|>' -}}",
)

_OURS = packaged_template().source


def _prepend(*more: normalizers.Normalizer) -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), *more])


PAIRS: dict[str, Pair] = {
    "ours": Pair(_OURS, CONTROL_TOKENS, lossless=True),
    "ours, NFC": Pair(_OURS, CONTROL_TOKENS, normalizer=normalizers.NFC),
    "ours, NFKC over normalized tokens": Pair(
        _OURS, CONTROL_TOKENS, normalizer=normalizers.NFKC, options={"normalized": True}
    ),
    "ours, BERT": Pair(_OURS, CONTROL_TOKENS, wordpiece),
    "ours, Unigram with control pieces": Pair(
        _OURS, CONTROL_TOKENS, _unigram("<|end|>", "<|user|>", byte_fallback=False)
    ),
    "ChatML": Pair(CHATML, ("<|im_start|>", "<|im_end|>"), lossless=True),
    "ChatML, lowercase over normalized tokens": Pair(
        CHATML,
        ("<|im_start|>", "<|im_end|>"),
        wordpiece,
        normalizers.Lowercase,
        {"normalized": True},
    ),
    "Qwen, thinking": Pair(_QWEN, _QWEN_CONTROL, plain=_QWEN_PLAIN, normalizer=normalizers.NFC),
    "Qwen, lossless": Pair(_QWEN, _QWEN_CONTROL, plain=_QWEN_PLAIN, lossless=True),
    "Llama 3": Pair(_LLAMA_3, _LLAMA_3_CONTROL, lossless=True),
    "Llama 2 with tokens": Pair(_LLAMA_2, _LLAMA_2_CONTROL, byte_fallback_bpe, _prepend),
    "Llama 2 with tokens, Metaspace": Pair(_LLAMA_2, _LLAMA_2_CONTROL, metaspace("first")),
    "Mistral": Pair(_MISTRAL, _MISTRAL_CONTROL, _unigram(), _prepend),
    "Mistral, Metaspace": Pair(_MISTRAL, _MISTRAL_CONTROL, metaspace("always")),
    "Gemma": Pair(_GEMMA, _GEMMA_CONTROL, byte_fallback_bpe, lambda: normalizers.Replace(" ", "▁")),
    "Phi": Pair(_PHI, _PHI_CONTROL, byte_fallback_bpe, _prepend, {"rstrip": True}),
    "Phi, single words": Pair(_SPACED, _PHI_CONTROL, options={"single_word": True}),
    "Phi, lowercase": Pair(_PHI, _PHI_CONTROL, normalizer=normalizers.Lowercase, options={"normalized": True}),
    "Phi, tokens that overlap": Pair(_PHI, _PHI_CONTROL, plain=("x<", "|>a", "end"), lossless=True),
    "DeepSeek": Pair(_DEEPSEEK, _DEEPSEEK_CONTROL, plain=("<think>", "</think>"), lossless=True),
    "DeepSeek, NFKC": Pair(
        _DEEPSEEK, _DEEPSEEK_CONTROL, _unigram(), lambda: _prepend(normalizers.NFKC()), plain=("<think>", "</think>")
    ),
    "Zephyr with tokens": Pair(_ZEPHYR, _ZEPHYR_CONTROL, byte_fallback_bpe, _prepend, {"lstrip": True}),
    "Zephyr with tokens, Strip": Pair(
        _ZEPHYR, _ZEPHYR_CONTROL, _unigram(), normalizers.Strip, {"normalized": True}
    ),
    "Command": Pair(_COMMAND, _COMMAND_CONTROL, lossless=True),
    "Granite": Pair(_GRANITE, _GRANITE_CONTROL, options={"lstrip": True, "rstrip": True}),
    "a template that pries": Pair(_PRYING, _PRYING_CONTROL, lossless=True),
    "a template that escapes": Pair(_ESCAPING, ("<|im_start|>", "<|im_end|>")),
    "a template that builds": Pair(
        CONCATENATING, ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>", "<|secret|>", "<tool_call>"),
        lossless=True,
    ),
    "tokens of blanks": Pair(_BLANKS, (*_PHI_CONTROL, "\n\n", "  "), lossless=True),
}  # fmt: skip
