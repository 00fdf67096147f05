"""The demo's tokenizer: byte-level BPE whose only special tokens are the template's control tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from metaalign.prompt import CONTROL_TOKENS, END_TOKEN, PAD_TOKEN, packaged_template
from metaalign.prompt.template import TOOL_CALL_TOKENS

__all__ = ["train_tokenizer"]

# A capitalised word is split from the space before it, so a name has the same tokens in the middle of a preference and
# at the start of an answer. Copying it is then one step a token; otherwise the model would have to learn to spell it.
_PIECES = r"\d|\p{Lu}[\p{Ll}\p{M}]*| ?[\p{Ll}\p{M}]+| ?[^\s\p{L}\p{N}]+|\s"


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocabulary_size` tokens; digits are single tokens, and a name has the same tokens everywhere."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_with_visible_tool_calls(backend), eos_token=END_TOKEN, pad_token=PAD_TOKEN
    )
    tokenizer.chat_template = packaged_template().source
    return tokenizer


def _with_visible_tool_calls(backend: Tokenizer) -> Tokenizer:
    """Keep tool-call markers as control tokens, but show them when decoding: answer parsers look for them."""
    state = json.loads(backend.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] not in TOOL_CALL_TOKENS
    return Tokenizer.from_str(json.dumps(state))
