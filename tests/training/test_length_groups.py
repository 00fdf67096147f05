"""Batches of rows of similar length, in random order: none lost, none twice, the same after a kill."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest
from transformers.trainer_pt_utils import LengthGroupedSampler

from metaalign_training.models import new_tokenizer
from metaalign_training.recipe_files import load_recipe
from metaalign_training.rows import Conversation, texts_of
from metaalign_training.stages.sft import make_trainer
from metaalign_training.trainers import LengthGroups
from metaalign_training.world.copying import copying


def test_batches_of_one_length_come_in_any_order() -> None:
    lengths = random.Random(1).choices(range(5, 200), k=1003)
    groups = LengthGroups(8, lengths, seed=3)
    rows = list(groups)
    assert sorted(rows) == list(range(1003))  # each once
    batches = [[lengths[r] for r in rows[n : n + 8]] for n in range(0, 1003, 8)]
    assert max(lengths) in batches[0]
    assert len(batches[-1]) == 3  # what is left over stays last, and shifts no batch
    whole = batches[1:-1]
    assert mean(max(b) - min(b) for b in whole) < 0.1 * 200
    # One step longer, the next shorter: neighbours differ as much as any two.
    steps = [mean(b) - mean(a) for a, b in pairwise(whole)]
    assert sum(s > 0 for s in steps) > 0.4 * len(steps)
    assert mean(map(abs, steps)) > 30


def test_every_epoch_has_its_own_order_and_a_resumed_run_the_same() -> None:
    lengths = list(range(100))
    groups = LengthGroups(4, lengths, seed=3)
    first = list(groups)
    groups.set_epoch(1)
    second = list(groups)
    assert first != second
    resumed = LengthGroups(4, lengths, seed=3)
    resumed.set_epoch(1)
    assert list(resumed) == second


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_few_rows_are_grouped_too(count: int) -> None:
    assert sorted(LengthGroups(4, [7] * count, seed=0)) == list(range(count))


def test_sft_draws_its_batches_so(tmp_path: Path) -> None:
    recipe = load_recipe("tiny")
    rows: list[Conversation] = [{"messages": conversation} for conversation in copying(64, seed=1)]
    tokenizer = new_tokenizer(recipe.model, (text for row in rows for text in texts_of(row)))
    trainer = make_trainer(recipe, tokenizer, rows, tmp_path / "sft")
    sampler = trainer.get_train_dataloader().batch_sampler.sampler  # type: ignore[union-attr]
    assert isinstance(sampler, LengthGroups)
    assert list(sampler) != list(LengthGroupedSampler(sampler.batch_size, lengths=sampler.lengths))
    assert sampler.batch_size == recipe.sft.batch_size * recipe.sft.accumulate
