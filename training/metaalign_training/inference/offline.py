"""A checkpoint in an offline vLLM engine. Only this module imports vLLM, and only when an engine starts."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from metaalign_training.errors import StageError
from metaalign_training.inference.chat import Answer, ChatRequest, Keep, Tools, tools_of
from metaalign_training.inference.prompts import Prompts
from metaalign_training.messages import Message, MetaPromptView
from metaalign_training.recipe import EndpointConfig

__all__ = ["VllmBackend", "VllmGenerator", "vllm_is_installed"]

logger = logging.getLogger(__name__)

# vLLM reads these on import. Without them its cache takes nine tenths of the memory on a CPU.
_VLLM_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
_BATCH = 256
"""Questions that the engine gets at once; their answers are kept together."""


def vllm_is_installed() -> bool:
    """Whether an offline engine can be started here."""
    return importlib.util.find_spec("vllm") is not None


class VllmGenerator:
    """Answers of the checkpoint in `folder`; `close` ends the engine's process.

    Attributes:
        tokens: Tokens processed for answers so far: of each answer and of its prompt, as if nothing were cached.

    Raises:
        StageError: vLLM is not installed, or does not start.
    """

    def __init__(self, folder: Path, meta_prompt: MetaPromptView = "full") -> None:
        for name, value in _VLLM_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
        except ImportError as error:
            raise StageError("engine: vllm is not installed here; use `transformers`") from error
        self._prompts = Prompts(folder, meta_prompt)
        self.tokens = 0
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
        tools: Sequence[Tools] = (),
    ) -> list[list[str]]:
        """See `Generator.generate`."""
        from vllm import SamplingParams, TokensPrompt

        parameters = SamplingParams(
            n=samples if temperature else 1,
            temperature=temperature,
            max_tokens=max_new_tokens,
            seed=seed if temperature else None,
        )
        prompts = [
            TokensPrompt(prompt_token_ids=self._prompts.ids(messages, own))
            for messages, own in zip(conversations, tools_of(conversations, tools), strict=True)
        ]
        outputs = self._engine.generate(prompts, parameters, use_tqdm=False)
        for output in outputs:
            self.tokens += sum(len(output.prompt_token_ids or ()) + len(o.token_ids) for o in output.outputs)
        return [[o.text for o in output.outputs] * (1 if temperature else samples) for output in outputs]

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int
    ) -> list[list[int]]:
        """The ids of one sampled answer to each prompt's ids, up to and with the token that ends it."""
        from vllm import SamplingParams, TokensPrompt

        parameters = [
            SamplingParams(
                temperature=temperature, max_tokens=max_new_tokens, seed=seed + n, detokenize=False
            )
            for n in range(len(prompts))
        ]
        outputs = self._engine.generate(
            [TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts], parameters, use_tqdm=False
        )
        return [list(output.outputs[0].token_ids) for output in outputs]

    def reload(self) -> None:
        """Read the weights in the engine's folder again; what the engine kept of the old ones is forgotten."""
        self._engine.collective_rpc("reload_weights")
        self._engine.reset_prefix_cache()

    def complete(self, requests: Sequence[ChatRequest], config: EndpointConfig) -> list[Answer]:
        """One answer to each question; `config` fills in what a question leaves open."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import StructuredOutputsParams

        def parameters(request: ChatRequest) -> SamplingParams:
            held = request.schema if config.structured else None
            return SamplingParams(
                temperature=config.temperature if request.temperature is None else request.temperature,
                max_tokens=request.max_tokens or config.max_tokens,
                seed=request.seed,
                structured_outputs=StructuredOutputsParams(json=dict(held)) if held else None,
            )

        prompts = [TokensPrompt(prompt_token_ids=self._prompts.ids(r.messages, r.tools)) for r in requests]
        outputs = self._engine.generate(prompts, [parameters(r) for r in requests], use_tqdm=False)
        return [
            Answer(o.outputs[0].text, len(o.prompt_token_ids or ()), len(o.outputs[0].token_ids))
            for o in outputs
        ]

    def close(self) -> None:
        """End the engine's process and give its memory back."""
        core = getattr(self._engine.llm_engine, "engine_core", None)
        if core is not None:
            core.shutdown()


class VllmBackend:
    """Starts an engine for the questions and ends it afterwards; see `Backend`."""

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config

    def ask(self, questions: Mapping[str, ChatRequest], keep: Keep, *, what: str, kept: int) -> None:
        """See `Backend.ask`."""
        logger.info(
            "%s: %d of %d answers by offline vLLM on %s",
            what,
            len(questions),
            kept + len(questions),
            self._config.model,
        )
        keys, requests = list(questions), list(questions.values())
        with contextlib.closing(VllmGenerator(Path(self._config.model))) as engine:
            for start in range(0, len(keys), _BATCH):
                answers = engine.complete(requests[start : start + _BATCH], self._config)
                for key, answer in zip(keys[start : start + _BATCH], answers, strict=True):
                    keep(key, answer)
