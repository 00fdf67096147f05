"""No flag pretends: each of vLLM's HTTP flags is ours, is carried out, or is refused with what to do instead."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from vllm.config import ParallelConfig, VllmConfig
from vllm.entrypoints.launchers.cli_args import FrontendArgs, make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from metaalign_server.cli import _parser
from metaalign_server.engine.branches import UNSTEERABLE, capacity_of
from metaalign_server.engine.flags import NOT_CARRIED_OUT, parse_engine_args
from metaalign_server.engine.steering.groups import SCHEDULER
from metaalign_server.settings import DEMO_CHECKPOINT, ConfigurationError, Settings

PARSER = make_arg_parser(FlexibleArgumentParser())
ACTIONS = {action.dest: action for action in PARSER._actions}
HTTP_FLAGS = {field.name for field in dataclasses.fields(FrontendArgs)} & ACTIONS.keys()
OTHERS = {"model_tag", "headless", "api_server_count", "grpc"}
"""Flags of `vllm serve` that its own groups do not list."""

TO_VLLM_S_HANDLERS = {
    "anthropic_disabled_thinking_effort",
    "chat_template",
    "chat_template_content_format",
    "cohere_format",
    "cohere_is_reasoning_model",
    "default_chat_template_kwargs",
    "enable_auto_tool_choice",
    "enable_flash_late_interaction",
    "enable_force_include_usage",
    "enable_per_request_metrics",
    "enable_prompt_tokens_details",
    "exclude_tools_when_tool_choice_none",
    "lora_modules",
    "response_role",
    "return_tokens_as_token_ids",
    "tool_call_parser",
    "tool_parser_plugin",
    "tool_strict_level",
}
"""Carried out: what vLLM's handlers read when they are made."""
ALWAYS = {"enable_request_id_headers"}
"""What the server does anyway."""


def our_flags() -> set[str]:
    (commands,) = [action for action in _parser()._actions if action.dest == "command"]
    return {action.dest for action in commands.choices["serve"]._actions}  # type: ignore[index]


def test_every_http_flag_has_one_answer() -> None:
    """A flag that a new vLLM brings belongs to none, and fails here until somebody decides."""
    answers = [our_flags() & (HTTP_FLAGS | OTHERS), TO_VLLM_S_HANDLERS, ALWAYS, set(NOT_CARRIED_OUT)]
    for name in sorted(HTTP_FLAGS | OTHERS):
        assert sum(name in answer for answer in answers) == 1, name
    assert set(NOT_CARRIED_OUT) <= ACTIONS.keys()


def value_for(name: str) -> list[str]:
    """Words of a command line that set a flag to something else than its default."""
    action = ACTIONS[name]
    if not action.option_strings:
        return ["some/model"]
    flag = f"--{name.replace('_', '-')}"
    if action.default is True:
        return [f"--no-{flag.removeprefix('--')}"]
    if action.nargs == 0:
        return [flag]
    choices = [str(choice) for choice in action.choices or [7] if choice != action.default]
    return [flag, choices[0]]


@pytest.mark.parametrize(
    "words",
    [
        ["--api_key", "secret"],
        ["--api_key=secret"],
        ["--ssl_certfile", "cert.pem"],
        ["--allowed_origins", '["https://app.example.com"]'],
        ["--served_model_name", "other"],
        ["--config=config.yaml"],
        ["--config", "config.yaml"],
    ],
)
def test_other_spellings_of_our_flags_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """vLLM's parser takes underscores, and flags in a file; ours does not see them."""
    (tmp_path / "config.yaml").write_text("api-key: secret\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="write it exactly so") as refused:
        parse_engine_args(Settings(_env_file=None), words)
    assert "secret" not in str(refused.value)


def test_flags_in_a_file_count_more_than_our_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("max-num-seqs: 7\nmax-model-len: 512\n")
    args = parse_engine_args(Settings(_env_file=None), ["--config", str(file), "--max-model-len", "256"])
    assert (args.max_num_seqs, args.max_model_len) == (7, 256)
    with pytest.raises(ConfigurationError, match=r"--config: .*nothing\.yaml"):
        parse_engine_args(Settings(_env_file=None), ["--config", str(tmp_path / "nothing.yaml")])


MULTI = '{"kv_connector": "MultiConnector", "kv_role": "kv_both", "kv_connector_extra_config": {"connectors": [%s]}}'


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('{"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}', None),
        ('{"kv_connector": "HF3FSKVConnector", "kv_role": "kv_both"}', "HF3FSKVConnector"),
        ('{"kv_connector": "ExampleConnector", "kv_role": "kv_both"}', "ExampleConnector"),
        (MULTI % '{"kv_connector": "OffloadingConnector"}', None),
        (
            MULTI % '{"kv_connector": "OffloadingConnector"}, {"kv_connector": "LMCacheConnectorV1"}',
            "LMCacheConnectorV1",
        ),
    ],
)
def test_caches_outside_the_engine_keep_tenants_apart(config: str, named: str | None) -> None:
    """Those whose keys are not known to hold the salt are refused, until the operator names them."""
    flags = ["--kv-transfer-config", config]
    if named is not None:
        with pytest.raises(ConfigurationError, match=f"--kv-transfer-config: {named} may give one tenant"):
            parse_engine_args(Settings(_env_file=None), flags)
    allowed = Settings(_env_file=None, allow_kv_connectors=(named,) if named else ())
    assert parse_engine_args(allowed, flags).kv_transfer_config is not None


@pytest.mark.parametrize("name", sorted(NOT_CARRIED_OUT))
def test_a_flag_that_would_do_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=NOT_CARRIED_OUT[name][:20]) as refused:
        parse_engine_args(Settings(_env_file=None), value_for(name))
    assert name in str(refused.value).replace("-", "_") or name == "model_tag"
    assert "\n" not in str(refused.value)


def test_what_vllms_parser_refuses_is_one_line() -> None:
    for words, named in (
        (["--nonsense", "1"], "--nonsense"),
        (["--dtype", "nope"], "--dtype"),
        (["--chat-template", "/nowhere/x.jinja"], "/nowhere/x.jinja"),
        (["--tool-parser-plugin", "/nowhere/x.py"], "--tool-parser-plugin /nowhere/x.py: no such file"),
    ):
        with pytest.raises(ConfigurationError, match=named) as refused:
            parse_engine_args(Settings(_env_file=None), words)
        assert "\n" not in str(refused.value)


def adapter(folder: Path, config: str | None = '{"r": 8}', weights: bool = True) -> Path:
    """A folder that looks like a LoRA adapter, as far as it is given."""
    folder.mkdir()
    if config is not None:
        (folder / "adapter_config.json").write_text(config)
    if weights:
        (folder / "adapter_model.safetensors").touch()
    return folder


def test_adapters_are_looked_for_before_the_weights_are_loaded(tmp_path: Path) -> None:
    """In both of vLLM's ways to write them."""
    good = adapter(tmp_path / "good")
    for path, problem in (
        (tmp_path / "nothing", "no such folder or adapter"),
        (good / "adapter_config.json", "no such folder or adapter"),
        (adapter(tmp_path / "empty", None), "there is no adapter_config.json"),
        (adapter(tmp_path / "bad", "{"), "not a JSON object"),
        (adapter(tmp_path / "list", "[]"), "not a JSON object"),
        (adapter(tmp_path / "bytes", None, weights=False), "there is no adapter_config.json"),
        (adapter(tmp_path / "weightless", weights=False), "there is no adapter_model.safetensors"),
        (adapter(tmp_path / "large", '{"r": 400}'), "--max-lora-rank"),
    ):
        for word in (f"mine={path}", json.dumps({"name": "mine", "path": str(path)})):
            flags = ["--enable-lora", "--lora-modules", f"other={good}", word]
            with pytest.raises(ConfigurationError, match=problem) as refused:
                parse_engine_args(Settings(_env_file=None), flags)
            assert str(refused.value).startswith(f"--lora-modules mine={path}: ")
    with pytest.raises(ConfigurationError, match="--enable-lora"):
        parse_engine_args(Settings(_env_file=None), ["--lora-modules", f"mine={good}"])
    for word in ("{bad", '{"name": "x", "folder": "y"}'):
        with pytest.raises(ConfigurationError, match="--lora-modules") as refused:
            parse_engine_args(Settings(_env_file=None), ["--enable-lora", "--lora-modules", word])
        assert "\n" not in str(refused.value)
    args = parse_engine_args(Settings(_env_file=None), ["--enable-lora", "--lora-modules", f"mine={good}"])
    assert args.lora_modules[0].path == str(good)


def test_a_checkpoint_is_served_under_the_name_of_its_recipe(tmp_path: Path) -> None:
    """Training leaves it in a folder that is called `checkpoint`; another folder's name is all that is known of it."""
    trained, plain = tmp_path / "checkpoint", tmp_path / "plain"
    shutil.copytree(DEMO_CHECKPOINT, trained)
    shutil.copytree(DEMO_CHECKPOINT, plain)
    (plain / "metaalign.json").unlink()
    for folder, name in ((trained, "metaalign-demo"), (plain, "plain")):
        assert parse_engine_args(Settings(model=str(folder)), []).served_model_name == [name]
    assert Settings(model=str(trained), served_model_name="mine").model_name == "mine"


@pytest.mark.parametrize(
    "flags",
    [
        ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2}'],
        ["--pipeline-parallel-size", "2"],
        ["--kv-transfer-config", '{"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}'],
        ["--watermark-config", '{"algorithm": "gumbel"}'],
        ["--enable-batch-sharded-sampling"],
        ["--scheduler-cls", "vllm.v1.core.sched.scheduler.Scheduler"],
    ],
    ids=lambda flags: flags[0],
)
def test_flags_that_do_not_go_with_steering_are_refused_if_it_is_asked_for(flags: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{flags[0]}: .*METAALIGN_STEERING=true; leave out one"):
        parse_engine_args(Settings(model=str(DEMO_CHECKPOINT), steering=True), flags)
    parse_engine_args(Settings(model=str(DEMO_CHECKPOINT)), flags)


def test_what_steering_does_not_go_with_is_found_in_vllms_configuration_too() -> None:
    """A field under another name would never be seen."""
    parts = {name for kind in (VllmConfig, ParallelConfig) for name in kind.__dataclass_fields__}
    for one in UNSTEERABLE:
        assert one.flag[2:].replace("-", "_") in parts
    config = SimpleNamespace(
        cache_config=SimpleNamespace(block_size=32, num_gpu_blocks=10),
        scheduler_config=SimpleNamespace(scheduler_cls=SCHEDULER, max_num_seqs=64),
        model_config=SimpleNamespace(
            is_diffusion=False, is_hybrid=False, is_attention_free=False, max_model_len=9
        ),
        parallel_config=SimpleNamespace(pipeline_parallel_size=1, enable_batch_sharded_sampling=False),
        speculative_config=None,
        kv_transfer_config=None,
        watermark_config=None,
    )
    assert capacity_of(config).refusal == ""
    config.parallel_config.pipeline_parallel_size = 2
    assert "pipeline parallelism" in capacity_of(config).refusal
    config.parallel_config.pipeline_parallel_size = 1
    config.kv_transfer_config = object()
    assert "a KV connector" in capacity_of(config).refusal


@pytest.mark.parametrize(
    ("flags", "backend"),
    [
        ([], "vllm.v1.executor.uniproc_executor.UniProcExecutor"),
        (["--tensor-parallel-size", "2"], None),
        (["--pipeline-parallel-size", "2"], None),
        (["--distributed-executor-backend", "mp"], "mp"),
        (["--tensor-parallel-size", "2", "--distributed-executor-backend", "mp"], "mp"),
    ],
)
def test_one_worker_runs_in_the_engine_s_process(flags: list[str], backend: str | None) -> None:
    args = parse_engine_args(Settings(model=str(DEMO_CHECKPOINT)), flags)
    assert args.distributed_executor_backend == backend


def test_a_worker_that_is_bound_to_cores_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "auto")
    assert parse_engine_args(Settings(model=str(DEMO_CHECKPOINT)), []).distributed_executor_backend is None
