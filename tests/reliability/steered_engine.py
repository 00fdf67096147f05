"""Run steered and plain requests through vLLM's engine in one process, and compare each with plain transformers.

The comparison shares no code with the server: it knows only the formula. Each answer of the engine is read back. At
each of its places, the mixture of the branches' logits, computed with transformers, must have its maximum at the token
that the engine drew. That is the same as decoding greedily with transformers and comparing whole sequences.

    python -m tests.reliability.steered_engine '{"requests": 200, "blocks": 400}'

It prints one JSON object; `test_steering.py` reads it.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

from tests.reliability.second_runner import use_second_runner

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

DEFAULTS: dict[str, Any] = {
    "requests": 200,
    "seed": 0,
    "tokens": 24,
    "longest": 260,
    "blocks": None,
    "policy": "priority",
    "asynchronous": False,
    "budget": 128,
    "sequences": 24,
    "abort": 0.1,
    "model": "checkpoints/metaalign-demo",
    "floor": 0.0,
    "runner": 1,
}


def drawn_requests(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Draw requests: a third of them plain, others dials of two and three branches, and blends of four."""
    rng = random.Random(options["seed"])

    def ids(length: int) -> list[int]:
        return [rng.randrange(300, 3600) for _ in range(length)]

    requests = []
    for number in range(options["requests"]):
        dialogue = ids(rng.randrange(4, options["longest"]))
        system, user = ids(rng.randrange(1, 40)), ids(rng.randrange(1, 40))
        kind = rng.choice(("plain", "two", "three", "blend"))
        if kind == "plain":
            branches = [(1.0, system + user + dialogue)]
        elif kind == "two":
            strength = rng.choice((0.5, 1.5, 2.0, 3.0))
            branches = [(strength, system + user + dialogue), (1 - strength, system + dialogue)]
        elif kind == "three":
            of_system, of_user = rng.choice((1.2, 2.0)), rng.choice((0.5, 1.5, 3.0))
            branches = [
                (of_user, system + user + dialogue),
                (of_system - of_user, system + dialogue),
                (1 - of_system, dialogue),
            ]
        else:
            branches = [
                (weight, system + ids(rng.randrange(1, 40)) + dialogue) for weight in (0.4, 0.3, 0.2, 0.1)
            ]
        requests.append(
            {
                "name": f"{kind}-{number}",
                "branches": branches,
                "priority": rng.randrange(3),
                "tokens": rng.randrange(1, options["tokens"] + 1),
                "abort_after": rng.randrange(1, 40) if rng.random() < options["abort"] else None,
                "arrives": rng.randrange(0, options["requests"]),
            }
        )
    return requests


def run_engine(
    requests: list[dict[str, Any]], options: dict[str, Any]
) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Return the tokens of each request that was not aborted, and what was seen on the way."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine

    from metaalign_server.engine.steering.groups import GROUP, SCHEDULER, Branch, Group, pack
    from metaalign_server.engine.steering.scheduler import AsyncSteeringScheduler

    config = EngineArgs(
        model=options["model"],
        dtype="float32",
        enforce_eager=True,
        block_size=32,
        max_num_seqs=options["sequences"],
        max_num_batched_tokens=options["budget"],
        max_model_len=512,
        num_gpu_blocks_override=options["blocks"],
        scheduling_policy=options["policy"],
        scheduler_cls=SCHEDULER,
        seed=0,
        kv_cache_memory_bytes=512 * 2**20,
    ).create_engine_config()
    # vLLM puts it off on a CPU, whatever is asked for.
    config.scheduler_config.async_scheduling = options["asynchronous"]
    engine = LLMEngine.from_vllm_config(config)
    core: Any = engine.engine_core
    scheduler = core.engine_core.scheduler
    if isinstance(scheduler, AsyncSteeringScheduler) is not options["asynchronous"]:
        raise RuntimeError("this is the other scheduler")
    if (core.engine_core.batch_queue is not None) is not options["asynchronous"]:
        raise RuntimeError("this is the other loop")
    if config.use_v2_model_runner is not (options["runner"] == 2):
        raise RuntimeError("this is the other model runner")
    pool = scheduler.kv_cache_manager.block_pool
    free_before = pool.get_num_free_blocks()
    preempted, split = {"plain": 0, "steered": 0}, 0
    stock_preempt, stock_schedule = scheduler._preempt_request, scheduler.schedule

    def preempt(request: Any, *args: Any, **kwargs: Any) -> None:
        preempted[
            "steered" if "~" in request.request_id or "plain" not in request.request_id else "plain"
        ] += 1
        stock_preempt(request, *args, **kwargs)

    def schedule(*args: Any, **kwargs: Any) -> Any:
        nonlocal split
        output = stock_schedule(*args, **kwargs)
        for names, _, _ in getattr(output, "metaalign_groups", ()):
            split += {output.num_scheduled_tokens.get(name) for name in names} != {1}
        return output

    scheduler._preempt_request, scheduler.schedule = preempt, schedule
    waiting = sorted(requests, key=lambda request: request["arrives"])
    answers: dict[str, list[int]] = {}
    aborted: set[str] = set()
    steps = 0
    while waiting or engine.has_unfinished_requests():
        while waiting and (waiting[0]["arrives"] <= steps or not engine.has_unfinished_requests()):
            request = waiting.pop(0)
            (weight, prompt), *others = request["branches"]
            group = Group(weight, tuple(Branch(tuple(ids), w) for w, ids in others), options["floor"])
            params = SamplingParams(
                temperature=0,
                max_tokens=request["tokens"],
                ignore_eos=True,
                detokenize=False,
                extra_args={GROUP: pack(group)} if others else None,
                output_kind=RequestOutputKind.CUMULATIVE,
            )
            engine.add_request(
                request["name"], {"prompt_token_ids": prompt}, params, priority=request["priority"]
            )
            request["added"] = steps
        for request in requests:
            late = request["abort_after"]
            due = late is not None and "added" in request and steps == request["added"] + late
            if due and len(answers.get(request["name"], ())) < request["tokens"]:
                aborted.add(request["name"])
                engine.abort_request([request["name"]])
        told: list[Any] = engine.step()
        for output in told:
            answers[output.request_id] = list(output.outputs[0].token_ids)
        steps += 1
        if steps > 20_000:
            raise RuntimeError("the engine does not come to an end")
    for _ in range(3):
        engine.step()
    seen = {
        "steps": steps,
        "aborted": len(aborted),
        "preempted": preempted,
        "split": split,
        "requests_left": len(scheduler.requests),
        "groups_left": len(scheduler._groups),
        "blocks_left": free_before - pool.get_num_free_blocks(),
    }
    return {name: ids for name, ids in answers.items() if name not in aborted}, seen


def plausible(model: Any, branches: list[tuple[float, list[int]]], answer: list[int], floor: float) -> Any:
    """Which tokens some branch with a positive weight gives at least `floor` of its best one's probability."""
    import torch

    seen = None
    for weight, ids in branches:
        if weight > 0:
            likely = model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].softmax(-1)
            found = likely >= floor * likely.amax(-1, keepdim=True)
            seen = found if seen is None else seen | found
    return seen


def check(
    requests: list[dict[str, Any]], answers: dict[str, list[int]], options: dict[str, Any]
) -> dict[str, Any]:
    """Compare the engine's answers with transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(options["model"], dtype=torch.float32)
    equal, different, smallest = 0, [], float("inf")
    with torch.inference_mode():
        for request in requests:
            answer = answers.get(request["name"])
            if answer is None:
                continue
            mixture = sum(
                weight * model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
                for weight, ids in request["branches"]
            )
            if options["floor"] and len(request["branches"]) > 1:
                mixture = mixture.masked_fill(
                    ~plausible(model, request["branches"], answer, options["floor"]), -1e9
                )
            best = mixture.topk(2).values
            smallest = min(smallest, float((best[:, 0] - best[:, 1]).min()))
            if len(answer) == request["tokens"] and mixture.argmax(-1).tolist() == answer:
                equal += 1
            else:
                different.append(request["name"])
    return {"compared": len(answers), "equal": equal, "different": different, "smallest_gap": smallest}


def main() -> None:
    """Run and print; see the module."""
    options = DEFAULTS | json.loads(sys.argv[1])
    if options["runner"] == 2:
        use_second_runner()
    requests = drawn_requests(options)
    answers, seen = run_engine(requests, options)
    print(json.dumps(seen | check(requests, answers, options)))


if __name__ == "__main__":
    main()
