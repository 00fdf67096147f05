"""What is served is what was evaluated: vLLM in our server gives the same greedy answers as transformers."""

from __future__ import annotations

import pytest

from metaalign_training.inference.endpoint import open_endpoint
from metaalign_training.inference.generation import EndpointGenerator, TransformersGenerator
from metaalign_training.recipe import EndpointConfig
from metaalign_training.stages.data.synthetic import evaluation_rows
from tests.processes import ROOT
from tests.server.conftest import MODEL, Twin
from tests.server.twin import KEY


def test_served_answers_are_those_of_transformers(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty held-out questions of each split, through HTTP with all tiers."""
    monkeypatch.setenv("METAALIGN_API_KEY", KEY)
    prompts = [row["prompt"] for row in evaluation_rows(0, 20)]
    endpoint = open_endpoint(EndpointConfig(base_url=f"{twin.url}/v1", model=MODEL))
    served = EndpointGenerator(endpoint, folded=False).generate(prompts, max_new_tokens=160)
    here = TransformersGenerator(ROOT / "checkpoints" / MODEL).generate(prompts, max_new_tokens=160)
    assert len(prompts) >= 220
    assert served == here
