"""The running engine as the routes see it: vLLM's handlers, the aligner, and liveness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.exceptions import VLLMError, VLLMValidationError
from vllm.version import __version__ as VLLM_VERSION

from metaalign_server.alignment import Aligner
from metaalign_server.engine.metering import install_meter
from metaalign_server.engine.rendering import build_assembler, install_hook
from metaalign_server.platform.queue import FairQueue
from metaalign_server.platform.startup import Platform
from metaalign_server.settings import Settings

__all__ = ["ENGINE_ERRORS", "VLLM_VERSION", "EngineError", "Service", "attach_service", "describe_exception"]

ENGINE_ERRORS: tuple[type[Exception], ...] = (
    VLLMError,
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
)
"""What vLLM's handlers raise for a request that they refuse."""


@dataclass(frozen=True, slots=True)
class EngineError:
    """An error of vLLM's, ready to be shaped for either protocol."""

    status: int
    type: str
    message: str
    param: str | None

    @classmethod
    def of(cls, response: ErrorResponse) -> EngineError:
        """From what a handler returned instead of an answer."""
        error = response.error
        return cls(int(error.code), error.type, error.message, error.param)


def describe_exception(error: Exception) -> EngineError:
    """Any exception that came out of vLLM's handlers, mapped as vLLM maps it."""
    return EngineError.of(create_error_response(error))


def is_validation_error(error: object) -> str | None:
    """The parameter that a vLLM validation error names, if it is one."""
    return error.parameter if isinstance(error, VLLMValidationError) else None


@dataclass(slots=True)
class Service:
    """Everything that a route needs, found at `app.state.metaalign`.

    Attributes:
        platform: The store and what is built on it; none under `vllm serve`.
        queue: Who may use the engine next.
        stalled: The engine does not answer; see `engine/watchdog.py`.
    """

    settings: Settings
    aligner: Aligner
    state: Any
    queue: FairQueue
    platform: Platform | None = None
    draining: bool = False
    stalled: bool = False

    @property
    def chat(self) -> Any:
        return self.state.openai_serving_chat

    @property
    def completions(self) -> Any:
        return self.state.openai_serving_completion

    @property
    def responses(self) -> Any:
        return self.state.openai_serving_responses

    @property
    def messages(self) -> Any:
        return self.state.anthropic_serving_messages

    @property
    def models(self) -> Any:
        return self.state.openai_serving_models

    @property
    def model_names(self) -> list[str]:
        """Names of the served model."""
        return [path.name for path in self.models.base_model_paths]

    @property
    def dead(self) -> bool:
        """Whether the engine has failed for good."""
        return bool(self.state.engine_client.errored)

    @property
    def ready(self) -> bool:
        """Whether new work is accepted."""
        return not self.draining and not self.stalled and not self.dead

    def forget(self) -> None:
        """See changes of the store at once, and keep no text that may have been erased."""
        self.aligner.forget()
        if self.platform is not None:
            self.platform.forget()


def attach_service(state: Any, settings: Settings, platform: Platform | None = None) -> Service:
    """Hook into vLLM's initialised application state and put the service beside it.

    Raises:
        metaalign.InvalidTemplate: the checkpoint cannot be served with preferences.
    """
    aligner = Aligner(build_assembler(state.online_renderer), settings.spec_cache_entries)
    install_hook(state.online_renderer, aligner)
    engine = state.engine_client
    install_meter(engine)
    sequences = engine.vllm_config.scheduler_config.max_num_seqs
    service = Service(
        settings=settings,
        aligner=aligner,
        state=state,
        # A quarter more than run at one time: the engine never waits for us to send the next.
        queue=FairQueue(sequences + max(1, sequences // 4), settings.max_waiting),
        platform=platform,
    )
    state.metaalign = service
    return service
