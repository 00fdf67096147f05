"""Tokenizers for new models: byte-level, and with no special tokens but the template's control tokens.

`subwords` is BPE. `spelled` knows whole words, and writes everything else letter by letter: a name that it has never
seen consists of letters that it has seen everywhere, so copying it is one step a letter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from metaalign.prompt import CONTROL_TOKENS, END_TOKEN, PAD_TOKEN, packaged_template
from metaalign.prompt.template import TOOL_CALL_TOKENS

__all__ = ["spelling_tokenizer", "subword_tokenizer"]

# A capitalised word is split from the space before it, so a name has the same tokens in the middle of a preference and
# at the start of an answer. Copying it is then one step a token; otherwise the model would have to learn to spell it.
_PIECES = r"\d|\p{Lu}[\p{Ll}\p{M}]*| ?[\p{Ll}\p{M}]+| ?[^\s\p{L}\p{N}]+|\s"


def subword_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocabulary_size` tokens; digits are single tokens, and a name has the same tokens everywhere."""
    backend = _byte_level(models.BPE(), _PIECES)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _finished(backend)


_WITH_CONTRACTIONS = rf"'(?:s|t|m|re|ll|ve|d)(?!\p{{L}})|{_PIECES}"
_LETTERS = [chr(c) for block in ((0xC0, 0x180), (0x391, 0x3CA), (0x410, 0x452)) for c in range(*block)]
"""Letters of two bytes that are one token each: Latin with accents, Greek, Cyrillic."""
_COMMON = 12_000
"""A word is known if it is one of so many or fewer texts."""
_VERY_COMMON = 300
"""A word that is always capitalised is taken for a name, and spelled, unless it is this common."""


def spelling_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with the common words of `texts` as tokens, `vocabulary_size` tokens at most; the rest is spelled.

    Names stay out of the vocabulary even if they are common: a model learns to copy them from those that it must spell.
    """
    splitter = _byte_level(models.BPE(), _WITH_CONTRACTIONS).pre_tokenizer
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        total += 1
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    written = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = [written.pre_tokenize_str(letter)[0][0] for letter in _LETTERS]
    vocabulary = list(dict.fromkeys(chain(CONTROL_TOKENS, bytes_, letters, _known_words(counts, total))))
    backend = _byte_level(
        models.BPE(
            vocab={token: number for number, token in enumerate(vocabulary[:vocabulary_size])},
            merges=[(letter[0], letter[1:]) for letter in letters],
            ignore_merges=True,
        ),
        _WITH_CONTRACTIONS,
    )
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS]
    )
    return _finished(backend)


def _known_words(counts: Counter[str], total: int) -> Iterator[str]:
    """Words, the most common first, without those that look like names."""
    space = "\u0120"  # how byte-level tokenizers write it
    small: Counter[str] = Counter()
    for piece, count in counts.items():
        if piece.removeprefix(space).islower():
            small[piece.removeprefix(space)] += count
    for piece, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count * _COMMON < total:
            return
        word = piece.removeprefix(space)
        is_name = (
            word[:1].isupper() and small[word.lower()] * _COMMON < total and count * _VERY_COMMON < total
        )
        if len(piece) > 1 and not is_name:
            yield piece


def _byte_level(model: models.BPE, pieces: str) -> Tokenizer:
    """A tokenizer that splits text into `pieces` and these into bytes."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _finished(backend: Tokenizer) -> PreTrainedTokenizerFast:
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
