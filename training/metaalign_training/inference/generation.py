"""Answers of a checkpoint or an endpoint. One protocol, three engines: transformers, offline vLLM, HTTP.

vLLM is imported in this module alone, and only when an engine is started.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from metaalign.prompt import PromptAssembler, verify_checkpoint
from metaalign_training.encoding import as_served
from metaalign_training.errors import StageError
from metaalign_training.messages import Message, MetaPromptView

__all__ = ["Generator", "TransformersGenerator", "VllmGenerator", "open_generator"]

logger = logging.getLogger(__name__)


# Read by vLLM when it is imported. On CPU it would otherwise claim nine tenths of the memory for its cache.
_VLLM_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


class Generator(Protocol):
    """Answers conversations that end with the user's turn."""

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[list[str]]:
        """`samples` answers for each conversation, in their order; temperature 0 is greedy."""
        ...


class _Prompts:
    """Conversations of one checkpoint as token ids."""

    def __init__(self, folder: Path, meta_prompt: MetaPromptView) -> None:
        if folder.is_dir():
            verify_checkpoint(folder)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise StageError(
                f"{folder}: no checkpoint there ({' '.join(str(error).split())[:200]})"
            ) from error
        self._assembler = PromptAssembler.from_tokenizer(self.tokenizer)
        self._view = meta_prompt

    def ids(self, messages: Sequence[Message]) -> list[int]:
        shown = as_served(self._assembler, messages, self._view)
        return list(self._assembler.assemble(shown, add_generation_prompt=True).token_ids)

    def answer_ids(self, messages: Sequence[Message], answer: str) -> tuple[list[int], int]:
        """Ids of prompt and answer, and where the answer begins."""
        prompt = self.ids(messages)
        shown = as_served(self._assembler, messages, self._view)
        whole = self._assembler.assemble([*shown, {"role": "assistant", "content": answer}]).token_ids
        return list(whole), len(prompt)


class TransformersGenerator:
    """Answers of a checkpoint by transformers, in batches of similar length, with log-likelihoods on demand."""

    def __init__(self, folder: Path, meta_prompt: MetaPromptView = "full", batch_size: int = 32) -> None:
        self._prompts = _Prompts(folder, meta_prompt)
        self._batch_size = batch_size
        device = "cuda" if torch.cuda.is_available() else "cpu"
        # On a GPU the precision of the weights, as the server does; CPUs are slow in 16 bits.
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto" if device == "cuda" else torch.float32
        )
        self._model = model.to(device).eval()

    @torch.inference_mode()
    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[list[str]]:
        """See `Generator.generate`."""
        tokenizer = self._prompts.tokenizer
        torch.manual_seed(seed)
        prompts = [self._prompts.ids(messages) for messages in conversations]
        answers: list[list[str]] = [[] for _ in prompts]
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature:
            sampling = {
                "do_sample": True,
                "temperature": temperature,
                "top_k": 0,
                "num_return_sequences": samples,
            }
        for batch in self._batches([len(p) for p in prompts]):
            width = max(len(prompts[i]) for i in batch)
            pads = [width - len(prompts[i]) for i in batch]
            ids = [[tokenizer.pad_token_id] * pad + prompts[i] for pad, i in zip(pads, batch, strict=True)]
            mask = [[0] * pad + [1] * (width - pad) for pad in pads]
            out = self._model.generate(
                torch.tensor(ids, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                max_new_tokens=max_new_tokens,
                **sampling,
            )
            texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
            each = len(texts) // len(batch)
            for place, i in enumerate(batch):
                answers[i] = texts[place * each : (place + 1) * each]
                if not temperature:
                    answers[i] = answers[i] * samples
        return answers

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    @torch.inference_mode()
    def log_likelihoods(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Log-probability of each answer behind its conversation, summed over the answer's tokens."""
        pad = self._prompts.tokenizer.pad_token_id
        encoded = [self._prompts.answer_ids(messages, answer) for messages, answer in pairs]
        sums = [0.0] * len(pairs)
        for batch in self._batches([len(ids) for ids, _ in encoded]):
            width = max(len(encoded[i][0]) for i in batch)
            ids = torch.tensor([encoded[i][0] + [pad] * (width - len(encoded[i][0])) for i in batch])
            ids = ids.to(self._model.device)
            mask = torch.tensor(
                [[1] * len(encoded[i][0]) + [0] * (width - len(encoded[i][0])) for i in batch]
            )
            logits = self._model(ids, attention_mask=mask.to(ids.device)).logits[:, :-1].float()
            scores = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
            for place, i in enumerate(batch):
                whole, start = encoded[i]
                sums[i] = float(scores[place, start - 1 : len(whole) - 1].sum())
        return sums


class VllmGenerator:
    """Answers of a checkpoint by an offline vLLM engine; use `open_generator`, which also ends the engine."""

    def __init__(self, folder: Path, meta_prompt: MetaPromptView = "full") -> None:
        for name, value in _VLLM_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
        except ImportError as error:
            raise StageError("engine: vllm is not installed here; use `transformers`") from error
        self._prompts = _Prompts(folder, meta_prompt)
        options: dict[str, Any] = {"disable_log_stats": True}
        if not torch.cuda.is_available():
            options |= {"enforce_eager": True, "block_size": 32, "max_num_seqs": 64, "dtype": "float32"}
        try:
            self._engine = LLM(model=str(folder), **options)
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise StageError(
                f"engine: vLLM did not start ({reason}); free memory, or use `transformers`"
            ) from error

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[list[str]]:
        """See `Generator.generate`."""
        from vllm import SamplingParams, TokensPrompt

        parameters = SamplingParams(
            n=samples if temperature else 1,
            temperature=temperature,
            max_tokens=max_new_tokens,
            seed=seed if temperature else None,
        )
        prompts = [TokensPrompt(prompt_token_ids=self._prompts.ids(messages)) for messages in conversations]
        outputs = self._engine.generate(prompts, parameters, use_tqdm=False)
        return [[o.text for o in output.outputs] * (1 if temperature else samples) for output in outputs]

    def complete(
        self, conversations: Sequence[Sequence[Message]], options: Sequence[Mapping[str, Any]]
    ) -> list[tuple[str, int, int]]:
        """One answer each with its own temperature, max_tokens, seed and schema: text, prompt and answer tokens."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import StructuredOutputsParams

        prompts = [TokensPrompt(prompt_token_ids=self._prompts.ids(messages)) for messages in conversations]
        parameters = [
            SamplingParams(
                temperature=o["temperature"],
                max_tokens=o["max_tokens"],
                seed=o["seed"],
                structured_outputs=StructuredOutputsParams(json=dict(o["schema"])) if o["schema"] else None,
            )
            for o in options
        ]
        outputs = self._engine.generate(prompts, parameters, use_tqdm=False)
        return [
            (o.outputs[0].text, len(o.prompt_token_ids or ()), len(o.outputs[0].token_ids)) for o in outputs
        ]

    def close(self) -> None:
        """End the engine's process and give its memory back."""
        core = getattr(self._engine.llm_engine, "engine_core", None)
        if core is not None:
            core.shutdown()


@contextmanager
def open_generator(
    engine: str, folder: Path, meta_prompt: MetaPromptView = "full", batch_size: int = 32
) -> Iterator[TransformersGenerator | VllmGenerator]:
    """`transformers` or `vllm` on the checkpoint in `folder`, ended with the block."""
    if engine == "vllm":
        with contextlib.closing(VllmGenerator(folder, meta_prompt)) as generator:
            yield generator
    else:
        yield TransformersGenerator(folder, meta_prompt, batch_size)
