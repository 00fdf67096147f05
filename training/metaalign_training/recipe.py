"""The typed recipe of a checkpoint: one YAML file with a section for each stage. Packaged recipes are in `recipes/`.

    name, seed, meta_prompt, model     what is trained, and which tiers it sees
    data                               build-data: the synthetic world, or a user's own instructions
    sft                                the first training stage
    rejection, dpo, grpo               further ones, in this order; each starts from the model of the one before
    evaluate, export                   how it is scored and what is written

`recipe_files` reads it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from metaalign_training.messages import MetaPromptView
from metaalign_training.world.drafts import SPLITS

__all__ = [
    "DataConfig",
    "DpoConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "ExportConfig",
    "FileShare",
    "FilterConfig",
    "GrpoConfig",
    "HierarchyConfig",
    "InstructionConfig",
    "LoraConfig",
    "Loss",
    "ModelConfig",
    "NewModelConfig",
    "PairConfig",
    "Recipe",
    "RejectionConfig",
    "SamplingConfig",
    "SftConfig",
    "SourceConfig",
    "SuiteConfig",
    "TrainingConfig",
    "WorldConfig",
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointConfig(_Model):
    """An OpenAI-compatible endpoint, or an offline engine in this process.

    Attributes:
        base_url: With `/v1`; None starts vLLM offline with `model`.
        model: Model name at the endpoint, or the checkpoint folder for offline vLLM.
        api_key_env: Environment variable that holds the key; keys do not belong in recipes.
        concurrency: Requests in flight.
        timeout: Seconds for one request.
        retries: How often a request is repeated after a connection error, 408, 409, 429 or 5xx.
        speaks_user_info: Whether it takes the role `user_info`, as MetaAlign servers do; others get one system message.
        structured: Whether to ask for JSON by schema where a program reads the answer; not all endpoints accept it.
        input_price, output_price: Price of a million tokens, for the cost report.
    """

    base_url: str | None = None
    model: str = "default"
    api_key_env: str = "METAALIGN_API_KEY"
    concurrency: int = Field(16, ge=1, le=512)
    timeout: float = Field(120, gt=0)
    retries: int = Field(4, ge=0, le=20)
    max_tokens: int = Field(512, ge=1)
    temperature: float = Field(0.8, ge=0, le=2)
    speaks_user_info: bool = False
    structured: bool = True
    input_price: float = Field(0, ge=0)
    output_price: float = Field(0, ge=0)


class NewModelConfig(_Model):
    """Shape of a small Qwen3-architecture model with random weights, and of its tokenizer.

    Attributes:
        vocabulary_size: Number of tokens; with `spelled`, at most.
        tokenizer: `subwords` is byte-level BPE; `spelled` has common words as tokens and spells all others.
        copying_steps: Steps of SFT in which the model learns to repeat letters, before it sees the data. Without them,
            a small model with a `spelled` vocabulary needs very long to find out how to copy a name.
    """

    vocabulary_size: int = Field(ge=300)
    tokenizer: Literal["subwords", "spelled"] = "subwords"
    copying_steps: int = Field(0, ge=0)
    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_dim: int = 32
    feed_forward: int = Field(ge=8)
    context: int = 2048


class ModelConfig(_Model):
    """What training starts from.

    Attributes:
        base: Hugging Face name or folder.
        new: Shape of a new model, instead of a base.
        template: `metaalign` gives the base our three-tier template and its control tokens; `own` keeps the base's
            template and folds both tiers into one system message, as the server does with such a model.
        attention: Attention implementation in transformers; packing needs `flash_attention_2`.
        dtype: Type of the weights in training; `auto` is bfloat16 on a CUDA device that supports it. A `new` model has
            float32 weights and matrix products in this type; `bfloat16` also stores it so.
    """

    base: str | None = None
    new: NewModelConfig | None = None
    template: Literal["metaalign", "own"] = "metaalign"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.base is None) == (self.new is None):
            raise ValueError("name either `base` (a checkpoint) or `new` (a shape)")
        if self.new is not None and self.template != "metaalign":
            raise ValueError("`template: own` needs a `base` that has one")
        return self


class WorldConfig(_Model):
    """The synthetic world: how many samples of each split, held-out rows, and questions for DPO pairs."""

    samples: int = Field(ge=1)
    shares: dict[str, Annotated[float, Field(ge=0)]]
    evaluation_per_split: int = Field(ge=1)
    pair_prompts: int = Field(0, ge=0)
    without_parts: tuple[Literal["helpful", "priority", "consensus", "opinion"], ...] = ()
    noise: float = Field(0, ge=0, le=1, description="share of answers replaced by the rejected one")

    @model_validator(mode="after")
    def _known_splits(self) -> Self:
        for name in self.shares:
            if name not in SPLITS:
                raise ValueError(f"shares: {name!r} is not a split; the splits are {', '.join(SPLITS)}")
        if not sum(self.shares.values()):
            raise ValueError("shares: at least one must be above zero")
        return self


class SourceConfig(_Model):
    """One source of instructions.

    Attributes:
        path: File (`.jsonl`, `.json`, `.csv`, `.parquet`, also `.gz`) or glob; relative to the recipe.
        dataset, subset, split: A Hugging Face data set instead, from its cache or the hub.
        kind: `instructions`: one text per row; `facts`: question and answer; `persona`: statements that someone with
            this disposition would agree with; `pairs`: chosen and rejected dialogues, used as they are; `checks`:
            questions whose answers a program checks, for the stages that learn from the model's own answers. They
            have `instruction_id_list` and `kwargs` as in IFEval, or `verify` as in requests.
        text, answer: Names of the columns; for `checks`, `text` may hold a dialogue.
        part: Part of the data set that is built from it.
        system: System Info under which `pairs` were ranked, or `checks` are asked.
        query: Kind of request, for the priority matrix, if it is the same for all rows.
        query_column, query_values: Column that tells the kind, and its values -> kinds.
        limit: Maximum number of rows; they are drawn with the recipe's seed.
    """

    path: str | None = None
    dataset: str | None = None
    subset: str | None = None
    split: str = "train"
    kind: Literal["instructions", "facts", "persona", "pairs", "checks"] = "instructions"
    text: str = "instruction"
    answer: str = "answer"
    part: Literal["helpful", "priority", "consensus", "opinion"] = "helpful"
    system: str | None = None
    query: str = "any"
    query_column: str | None = None
    query_values: dict[str, str] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("name either `path` or `dataset`")
        if self.query_column is not None and not self.query_values:
            raise ValueError("`query_column` needs `query_values`")
        if self.part != "priority" and (self.query != "any" or self.query_column or self.query_values):
            raise ValueError(
                f"`query`, `query_column` and `query_values` have no effect with `part: {self.part}`; remove them, or"
                " say `part: priority`"
            )
        return self


class FilterConfig(_Model):
    """Limits of the filters: lengths in characters, similarity as the Jaccard index of word trigrams."""

    min_characters: int = Field(3, ge=0)
    max_characters: int = Field(8000, ge=1)
    min_answer_characters: int = Field(1, ge=0)
    near_duplicate: float = Field(0.85, gt=0, le=1)
    contaminated: float = Field(0.7, gt=0, le=1)


class InstructionConfig(_Model):
    """A user's own instructions, answered by a teacher and ranked by an annotator.

    Attributes:
        held_out: Share of the questions that is kept for evaluation.
        preference_share: Share of the other questions that SFT does not see, for the stages after it: their pairs are
            DPO's, their prompts those that the model itself answers. Default: 0.4 if the recipe has such a stage,
            else 0. With 0, `pairs.jsonl` and `prompts.jsonl` are of the questions in `sft.jsonl`.
    """

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    library: str | None = None
    priorities: str | None = None
    comparisons_per_instruction: int = Field(1, ge=1, le=16)
    teacher: EndpointConfig
    annotator: EndpointConfig | None = None
    annotate: bool = True
    filters: FilterConfig = FilterConfig()
    decontaminate: tuple[str, ...] = ()
    held_out: float = Field(0.05, ge=0, lt=1)
    preference_share: float | None = Field(None, ge=0, lt=1)


class HierarchyConfig(_Model):
    """Rows in which authorities contradict each other; see `stages/data/hierarchy.py`.

    Attributes:
        rows: Conversations for SFT; as many other questions become pairs and prompts for the stages after it.
    """

    rows: int = Field(4000, ge=1)
    evaluation_per_kind: int = Field(50, ge=1)


class DataConfig(_Model):
    """Where data come from; exactly one of them."""

    world: WorldConfig | None = None
    instructions: InstructionConfig | None = None
    hierarchy: HierarchyConfig | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(own is not None for own in (self.world, self.instructions, self.hierarchy)) != 1:
            raise ValueError("name either `world`, `instructions` or `hierarchy`")
        return self


class LoraConfig(_Model):
    """Low-rank adapters; `quantise` loads the base in 4 bits (QLoRA; needs CUDA)."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    quantise: bool = False


class FileShare(_Model):
    """A further file of rows for a mixture; a `share` below 1 draws that fraction of them."""

    path: str
    share: float = Field(1.0, gt=0, le=1)


class ValidationConfig(_Model):
    """Loss on held-out rows, at each checkpoint and at the end.

    Attributes:
        share: Share of the rows, by question: no question is both learned and held out.
        keep_best: Whether the result is the checkpoint with the lowest validation loss, instead of the last.
        patience: Stop after this many validations in a row that were no better.
    """

    share: float = Field(0.02, gt=0, le=0.5)
    keep_best: bool = True
    patience: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.patience is not None and not self.keep_best:
            raise ValueError("`patience` needs `keep_best: true`: the last checkpoint is a worse one")
        return self


class TrainingConfig(_Model):
    """What the training stages have in common: steps or epochs, and a learning rate with cosine decay to zero."""

    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    batch_size: int = Field(ge=1, description="rows per device and step")
    accumulate: int = Field(1, ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_length: int | None = Field(None, ge=8, description="tokens; longer rows are dropped and counted")
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False
    save_every: int = Field(200, ge=1)
    log_every: int = Field(25, ge=1)
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    mixture: tuple[FileShare, ...] = ()
    validation: ValidationConfig | None = None

    @model_validator(mode="after")
    def _how_long(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("name either `steps` or `epochs`")
        return self


Loss: TypeAlias = Literal["answer", "all_turns"]


class SftConfig(TrainingConfig):
    """Supervised fine-tuning.

    Attributes:
        loss: What a conversation teaches: its `answer`, the last message, or `all_turns` of the assistant, calls of
            tools among them. Earlier turns may be anybody's (a user's log, an attack), so they are not learned unasked.
        packing: `none` pads batches of similar length; `padding_free` concatenates a batch without padding; `packed`
            fills sequences of `max_length` by best fit. The last two need `attention: flash_attention_2`.
    """

    loss: Loss = "answer"
    packing: Literal["none", "padding_free", "packed"] = "none"


class SamplingConfig(_Model):
    """Answers of the model in training, and who says which are good.

    Attributes:
        prompts: Number of questions from build-data's `prompts.jsonl`.
        candidates: Answers sampled for each question.
        engine: `vllm` (offline), `transformers`, or `auto`: vLLM where it is installed.
        label: How the better answer is found: the world's `verifier`, or the `judge` endpoint.
    """

    prompts: int = Field(0, ge=0)
    candidates: int = Field(4, ge=2, le=64)
    temperature: float = Field(1.0, gt=0, le=2)
    max_new_tokens: int = Field(160, ge=1)
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    label: Literal["verifier", "judge"] = "verifier"
    judge: EndpointConfig | None = None

    @model_validator(mode="after")
    def _has_a_judge(self) -> Self:
        if self.label == "judge" and self.judge is None:
            raise ValueError("`label: judge` needs `judge`, an endpoint")
        return self


class PairConfig(SamplingConfig):
    """Where DPO's pairs come from: samples of the model, files, or both. `prompts: 0` uses files only.

    Attributes:
        reference: Where no sampled answer is good, use the known right one as `chosen`.
        swap: Whether the same two answers also make a pair under the opposite preference.
        files: Further JSONL files with `prompt`, `chosen` and `rejected`.
        thumbs: JSONL files with `prompt`, `completion` and `label` (true: thumbs up); only KTO can learn from them.
        build_data: Whether build-data's own pairs are used too.
    """

    reference: bool = False
    swap: bool = True
    files: tuple[FileShare, ...] = ()
    thumbs: tuple[FileShare, ...] = ()
    build_data: bool = True


class RejectionConfig(SftConfig):
    """Rejection sampling: the model answers each question several times, and SFT goes on with the best good answers.

    `mixture` adds files, for example build-data's `sft.jsonl`, so that nothing else is forgotten.
    """

    samples: SamplingConfig

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if not self.samples.prompts:
            raise ValueError("`samples.prompts` must be above 0: there is nothing to sample answers for")
        return self


class DpoConfig(TrainingConfig):
    """Preference optimisation of the model before, which is also the reference.

    Attributes:
        loss: `dpo` (arXiv 2305.18290); `ipo` (2310.12036); `hinge` (SLiC, 2305.10425); `robust`: DPO whose labels are
            wrong with probability `label_smoothing` (2403.00409); `simpo` (2405.14734) and `orpo` (2403.07691), which
            have no reference; `kto` (2402.01306), which takes each answer by itself, liked or disliked.
        beta: Strength of the pull towards the reference; for `simpo` the scale of the reward, for `orpo` the weight
            of the odds ratio.
        label_smoothing: Probability that a label is wrong; `robust` and `simpo` use it.
        margin: By how much SimPO wants the better answer's reward to be higher (its gamma).
        rounds: Iterative DPO: each round samples pairs from the model of the round before, which is its reference.
    """

    loss: Literal["dpo", "ipo", "hinge", "robust", "simpo", "orpo", "kto"] = "dpo"
    beta: float = Field(0.1, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    margin: float = Field(0.5, ge=0)
    rounds: int = Field(1, ge=1, le=32)
    pairs: PairConfig = PairConfig()

    @model_validator(mode="after")
    def _fits_the_loss(self) -> Self:
        if self.label_smoothing and self.loss not in ("robust", "simpo"):
            raise ValueError(
                f"`label_smoothing` has no effect with `loss: {self.loss}`; use `robust` or `simpo`"
            )
        if self.loss == "robust" and not self.label_smoothing:
            raise ValueError("`loss: robust` needs `label_smoothing` above 0; without it, it is `dpo`")
        if self.margin != 0.5 and self.loss != "simpo":
            raise ValueError(f"`margin` has no effect with `loss: {self.loss}`; it is SimPO's")
        if self.pairs.thumbs and self.loss != "kto":
            raise ValueError(
                f"`pairs.thumbs` cannot be used with `loss: {self.loss}`; only `kto` takes single answers"
            )
        if self.loss == "kto" and self.batch_size < 2:
            raise ValueError(
                "`loss: kto` needs `batch_size` of at least 2: it compares each answer with another's"
            )
        if self.rounds > 1 and not self.pairs.prompts:
            raise ValueError(
                "`rounds` above 1 needs `pairs.prompts`: later rounds learn from new samples only"
            )
        return self


RewardKind: TypeAlias = Literal["verifier", "judge", "implicit"]


class GrpoConfig(TrainingConfig):
    """Group relative policy optimisation (arXiv 2402.03300): sample, reward, and update, in every step.

    A step answers `batch_size` x `accumulate` / `candidates` questions, `candidates` times each.

    Attributes:
        rewards: Kind of reward -> its weight: `verifier`; `judge`; `implicit`, that of the recipe's DPO model against
            the model that DPO started from, at DPO's `beta`.
        prompts: Number of questions from build-data's `prompts.jsonl`.
        beta: Weight of the divergence from the model before; 0 needs no reference model.
        loss: How tokens are averaged: per answer (`grpo`), over the batch (`dapo`), or by the maximum length
            (`dr_grpo`, arXiv 2503.20783).
        scale_rewards: Whether advantages are divided by the group's standard deviation.
    """

    prompts: int = Field(ge=1)
    candidates: int = Field(8, ge=2, le=256)
    temperature: float = Field(1.0, gt=0, le=2)
    max_new_tokens: int = Field(160, ge=1)
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    rewards: dict[RewardKind, float] = Field({"verifier": 1.0}, min_length=1)
    judge: EndpointConfig | None = None
    beta: float = Field(0.0, ge=0)
    loss: Literal["grpo", "dapo", "dr_grpo"] = "dapo"
    scale_rewards: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "judge" in self.rewards and self.judge is None:
            raise ValueError("`rewards: {judge: …}` needs `judge`, an endpoint")
        if self.batch_size * self.accumulate % self.candidates:
            raise ValueError(
                f"`batch_size` x `accumulate` ({self.batch_size * self.accumulate}) must be a multiple of `candidates`"
                f" ({self.candidates}): a step holds whole groups"
            )
        if self.mixture:
            raise ValueError("`mixture` has no effect: GRPO learns from its own answers to `prompts`")
        if self.validation is not None:
            raise ValueError(
                "`validation` has no effect: GRPO's loss says nothing about how good its answers are"
            )
        return self


class SuiteConfig(_Model):
    """One evaluation suite: a published format on disk, or our own rows."""

    kind: Literal[
        "rows",
        "persona",
        "sycophancy",
        "xstest",
        "prefeval",
        "prefeval-options",
        "multifaceted",
        "iheval",
        "realguardrails",
        "tensortrust",
        "sys-ifeval",
        "manyih",
        "lamp",
        "probe",
        "probe-names",
    ] = "rows"
    path: str | None = None
    limit: int | None = Field(None, ge=1)
    name: str | None = None


class EvaluationConfig(_Model):
    """How a checkpoint or an endpoint is scored.

    Attributes:
        suites: Default: the held-out rows that build-data wrote.
        engine: `transformers`, offline `vllm`, or the `endpoint`.
        swap: Whether to measure swap discrimination by log-likelihood too; endpoints cannot.
        judge: Endpoint that scores what no program can; suites that need one are refused without it.
        baseline: Evaluation folder of another checkpoint, whose answers the judge compares with.
        resamples: Bootstrap resamples.
        run_code: Whether suites may run the code that a model writes (ManyIH); do it in a container.
    """

    suites: tuple[SuiteConfig, ...] = (SuiteConfig(),)
    engine: Literal["transformers", "vllm", "endpoint"] = "transformers"
    endpoint: EndpointConfig | None = None
    max_new_tokens: int = Field(160, ge=1)
    batch_size: int = Field(32, ge=1)
    swap: bool = True
    judge: EndpointConfig | None = None
    baseline: str | None = None
    resamples: int = Field(1000, ge=100)
    run_code: bool = False

    @model_validator(mode="after")
    def _has_an_endpoint(self) -> Self:
        if self.engine == "endpoint" and (self.endpoint is None or self.endpoint.base_url is None):
            raise ValueError("`engine: endpoint` needs `endpoint` with a `base_url`")
        return self


class ExportConfig(_Model):
    """What is written.

    Attributes:
        adapter_only: The LoRA adapter alone, instead of merged weights.
        license: Identifier for the model card, such as `apache-2.0`; the card names no licence without it.
        push_to_hub: Repository on the Hugging Face hub to upload to.
    """

    adapter_only: bool = False
    license: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9.-]*$")
    push_to_hub: str | None = None
    private: bool = True


class Recipe(_Model):
    """Everything that determines a checkpoint, apart from the code."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
    seed: int
    meta_prompt: MetaPromptView = "full"
    model: ModelConfig
    data: DataConfig
    sft: SftConfig
    rejection: RejectionConfig | None = None
    dpo: DpoConfig | None = None
    grpo: GrpoConfig | None = None
    evaluate: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for stage in (self.sft, self.rejection, self.dpo, self.grpo):
            if stage is not None and stage.lora is not None and self.model.base is None:
                raise ValueError("lora needs a `model.base`: a new model has nothing to adapt")
        for name, stage in (("sft", self.sft), ("rejection", self.rejection)):
            if stage is not None and stage.packing != "none" and self.model.attention != "flash_attention_2":
                raise ValueError(
                    f"{name}.packing: {stage.packing} needs `model.attention: flash_attention_2`, "
                    "because otherwise rows attend to each other, or are slower than padded ones"
                )
        if self.export.adapter_only and self.sft.lora is None:
            raise ValueError("export.adapter_only: needs `sft.lora`")
        later = [name for name in ("rejection", "dpo", "grpo") if getattr(self, name) is not None]
        whole = [name for name in later if getattr(self, name).lora is None]
        if self.export.adapter_only and whole:
            raise ValueError(
                f"export.adapter_only: needs `{whole[0]}.lora`, or `{whole[0]}: null`; training all weights leaves"
                " nothing that is only an adapter"
            )
        without_reference = self.dpo is None or self.dpo.loss in ("simpo", "orpo")
        if self.grpo is not None and "implicit" in self.grpo.rewards and without_reference:
            raise ValueError("grpo.rewards: `implicit` needs a `dpo` stage whose loss has a reference")
        return self
