"""Answers of a checkpoint or an endpoint: one protocol, and transformers, offline vLLM and endpoints behind it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, TextIteratorStreamer

from metaalign_training.inference.chat import ChatRequest, Tools, tools_of
from metaalign_training.inference.endpoint import Endpoint
from metaalign_training.inference.journal import Journal
from metaalign_training.inference.offline import VllmGenerator, vllm_is_installed
from metaalign_training.inference.prompts import Prompts
from metaalign_training.messages import Message, MetaPromptView, folded, view

__all__ = ["EndpointGenerator", "Generator", "KeepingGenerator", "TransformersGenerator", "open_generator"]


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
        tools: Sequence[Tools] = (),
    ) -> list[list[str]]:
        """`samples` answers for each conversation, in their order; temperature 0 is greedy.

        `tools` has the tools of each conversation, if any has some.
        """
        ...


class TransformersGenerator:
    """A checkpoint in transformers: answers in batches of similar length, and log-likelihoods.

    Attributes:
        tokens: Tokens processed for answers so far: of each answer and of its prompt, without padding.
    """

    def __init__(
        self, folder: Path, meta_prompt: MetaPromptView = "full", batch_size: int | None = None
    ) -> None:
        self._prompts = Prompts(folder, meta_prompt)
        self.tokens = 0
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._batch_size = batch_size or (256 if device == "cuda" else 32)
        # On a GPU in the precision of the weights, as the server does; CPUs are slow in 16 bits.
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
        tools: Sequence[Tools] = (),
    ) -> list[list[str]]:
        """See `Generator.generate`."""
        tokenizer = self._prompts.tokenizer
        torch.manual_seed(seed)
        prompts = [
            self._prompts.ids(m, t)
            for m, t in zip(conversations, tools_of(conversations, tools), strict=True)
        ]
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
            self.tokens += each * sum(len(prompts[i]) for i in batch)
            self.tokens += int((out[:, width:] != tokenizer.pad_token_id).sum())
            for place, i in enumerate(batch):
                answers[i] = texts[place * each : (place + 1) * each]
                if not temperature:
                    answers[i] = answers[i] * samples
        return answers

    def stream(
        self, messages: Sequence[Message], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[str]:
        """One answer in pieces, as they are made; it is broken off when the iterator is closed."""
        streamer = TextIteratorStreamer(
            self._prompts.tokenizer,
            skip_prompt=True,
            skip_special_tokens=True,
        )
        ids = torch.tensor([self._prompts.ids(messages)], device=self._model.device)
        closed = threading.Event()
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}

        def stop(found: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            return torch.full((found.shape[0],), closed.is_set(), device=found.device)

        def work() -> None:
            torch.manual_seed(seed)
            self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                streamer=streamer,
                stopping_criteria=[stop],
                **sampling,
            )

        with ThreadPoolExecutor(1) as thread:
            answered = thread.submit(work)
            answered.add_done_callback(lambda _: streamer.end())  # also if it fails
            try:
                yield from filter(None, streamer)
            finally:
                closed.set()
            answered.result()

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    @torch.inference_mode()
    def log_likelihoods(
        self, pairs: Sequence[tuple[Sequence[Message], str]], tools: Sequence[Tools] = ()
    ) -> list[float]:
        """Log-probability of each answer after its conversation, summed over the answer's tokens.

        Args:
            pairs: Conversation and answer.
            tools: Tools of each conversation, or nothing if none has any.
        """
        pad = self._prompts.tokenizer.pad_token_id
        encoded = [
            self._prompts.answer_ids(messages, answer, own)
            for (messages, answer), own in zip(pairs, tools_of(pairs, tools), strict=True)
        ]
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


class EndpointGenerator:
    """Greedy or sampled answers of an endpoint.

    Args:
        endpoint: What is asked.
        meta_prompt: Which tiers it sees.
        folded: Send both tiers as one system message; a MetaAlign server also takes the role `user_info`.
    """

    def __init__(
        self, endpoint: Endpoint, meta_prompt: MetaPromptView = "full", *, folded: bool = True
    ) -> None:
        self._endpoint = endpoint
        self._view = meta_prompt
        self._folded = folded

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
        tools: Sequence[Tools] = (),
    ) -> list[list[str]]:
        """See `Generator.generate`."""
        shown = [view(messages, self._view) for messages in conversations]
        if self._folded:
            shown = [folded(messages) for messages in shown]
        requests = [
            ChatRequest(messages, temperature, max_new_tokens, seed=seed + sample, tools=own)
            for messages, own in zip(shown, tools_of(shown, tools), strict=True)
            for sample in range(samples)
        ]
        answers = self._endpoint.complete(requests, "answers")
        return [answers[i : i + samples] for i in range(0, len(answers), samples)]


@contextmanager
def open_generator(
    engine: str, folder: Path, meta_prompt: MetaPromptView = "full", batch_size: int | None = None
) -> Iterator[TransformersGenerator | VllmGenerator]:
    """The checkpoint in `folder` in `transformers` or `vllm` (`auto`: if installed); vLLM ends with the block."""
    if engine == "vllm" or (engine == "auto" and vllm_is_installed()):
        with contextlib.closing(VllmGenerator(folder, meta_prompt)) as generator:
            yield generator
    else:
        yield TransformersGenerator(folder, meta_prompt, batch_size)


class KeepingGenerator:
    """Keeps answers in a journal, so a run that was killed asks the model for the rest only.

    Args:
        open_: Opens the generator that answers; called once something is missing.
        path: The journal.

    Attributes:
        tokens: Tokens processed for answers so far, without those that the journal had.
    """

    def __init__(self, open_: Callable[[], AbstractContextManager[Generator]], path: Path) -> None:
        self._open, self._journal, self._stack = open_, Journal(path), ExitStack()
        self._generator: Generator | None = None

    @property
    def tokens(self) -> int:
        return int(getattr(self._generator, "tokens", 0))

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
        tools: Sequence[Tools] = (),
    ) -> list[list[str]]:
        """See `Generator.generate`."""
        options: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "samples": samples,
            "seed": seed,
        }
        cases = list(zip(conversations, tools_of(conversations, tools), strict=True))
        asked = [json.dumps([list(messages), list(own), options]) for messages, own in cases]
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in asked]
        missing = {k: case for k, case in zip(keys, cases, strict=True) if k not in self._journal.answers}
        if missing:
            if self._generator is None:
                self._generator = self._stack.enter_context(self._open())
            answers = self._generator.generate(
                [messages for messages, _ in missing.values()],
                tools=[own for _, own in missing.values()],
                **options,
            )
            with self._journal.writing():
                for key, own in zip(missing, answers, strict=True):
                    self._journal.add(key, json.dumps(own, ensure_ascii=False))
        return [json.loads(self._journal.answers[key]) for key in keys]

    def close(self) -> None:
        """End the generator that answered, if one did."""
        self._stack.close()
