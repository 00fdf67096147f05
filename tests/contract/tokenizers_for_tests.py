"""Small tokenizers and templates of several families, built on the spot."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from metaalign.prompt import CONTROL_TOKENS, packaged_template

TEXTS = [
    "The otter lives in rivers and eats fish.",
    "Answer like a pirate: ahoy!",
    "system user assistant end <|>[]{}",
]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content | trim) + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Builds control strings out of values: a role or a tool's name may complete one.
CONCATENATING = (
    "{% for t in tools or [] %}{{ '<' + t.name + '>' + t.text }}{% endfor %}"
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def byte_level(
    control: tuple[str, ...], template: str, normalizer: normalizers.Normalizer | None = None
) -> PreTrainedTokenizerFast:
    """A byte-level BPE that knows `control` as special tokens."""
    backend = Tokenizer(models.BPE())
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    backend.add_special_tokens(
        [AddedToken(c, normalized=normalizer is not None, special=True) for c in control]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.chat_template = template
    return tokenizer


def ours() -> PreTrainedTokenizerFast:
    return byte_level(CONTROL_TOKENS, packaged_template().source)


def chatml() -> PreTrainedTokenizerFast:
    return byte_level(("<|im_start|>", "<|im_end|>"), CHATML)


def concatenating() -> PreTrainedTokenizerFast:
    control = ("<|user|>", "<|assistant|>", "<|end|>", "<|secret|>", "<tool_call>")
    return byte_level(control, CONCATENATING)


def normalising() -> PreTrainedTokenizerFast:
    """NFKC turns full-width look-alikes into control strings before they are matched."""
    return byte_level(CONTROL_TOKENS, packaged_template().source, normalizers.NFKC())


def unigram() -> PreTrainedTokenizerFast:
    """The model's own vocabulary holds a control string as an ordinary piece."""
    letters = [(chr(c), -5.0) for c in range(32, 127)]
    pieces = [("<unk>", 0.0), ("<|end|>", -1.0), ("<|user|>", -1.0), *letters]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in CONTROL_TOKENS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    tokenizer.chat_template = packaged_template().source
    return tokenizer
