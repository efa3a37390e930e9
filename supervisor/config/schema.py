"""ModelConfig as typed structs: what the rest of the server reads.

Attributes are the proto's field names, in the order in which Triton prints them; enum values are
the proto's names as text; a message or a oneof's member that is not set is None; everything else
has proto3's default. A configuration is never changed in place: `msgspec.structs.replace` makes
the changed copy.
"""

from __future__ import annotations

import msgspec

from .optimization import ModelOptimizationPolicy

# --- tensors --------------------------------------------------------------------------------------


class ModelTensorReshape(msgspec.Struct, frozen=True, kw_only=True):
    """The shape that the backend sees instead of `dims`, batch dimension excluded."""

    shape: list[int] = []


class ModelInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input tensor; `dims` excludes the batch dimension when max_batch_size > 0."""

    name: str = ""
    data_type: str = "TYPE_INVALID"
    format: str = "FORMAT_NONE"
    dims: list[int] = []
    reshape: ModelTensorReshape | None = None
    is_shape_tensor: bool = False
    allow_ragged_batch: bool = False
    optional: bool = False
    is_non_linear_format_io: bool = False


class ModelOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output tensor; `label_filename` is relative to the model's folder."""

    name: str = ""
    data_type: str = "TYPE_INVALID"
    dims: list[int] = []
    reshape: ModelTensorReshape | None = None
    label_filename: str = ""
    is_shape_tensor: bool = False
    is_non_linear_format_io: bool = False


class BatchInput(msgspec.Struct, frozen=True, kw_only=True):
    """An input that the server itself computes from the requests of a batch."""

    kind: str = "BATCH_ELEMENT_COUNT"
    target_name: list[str] = []
    data_type: str = "TYPE_INVALID"
    source_input: list[str] = []


class BatchOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is cut into requests by the shapes of an input."""

    target_name: list[str] = []
    kind: str = "BATCH_SCATTER_WITH_INPUT_SHAPE"
    source_input: list[str] = []


# --- versions, instances, optimisation ------------------------------------------------------------


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """Serve the highest `num_versions` versions."""

    num_versions: int = 0


class All(msgspec.Struct, frozen=True, kw_only=True):
    """Serve every version."""


class Specific(msgspec.Struct, frozen=True, kw_only=True):
    """Serve exactly these versions."""

    versions: list[int] = []


class ModelVersionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the version folders are served: exactly one of the three is set."""

    latest: Latest | None = None
    all: All | None = None
    specific: Specific | None = None


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource of the rate limiter that an instance needs `count` of to run."""

    name: str = ""
    global_: bool = msgspec.field(default=False, name="global")
    count: int = 0


class ModelRateLimiter(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance needs before it may run, and its weight among those that wait."""

    resources: list[Resource] = []
    priority: int = 0


class SecondaryDevice(msgspec.Struct, frozen=True, kw_only=True):
    """An accelerator beside the instance's own device."""

    kind: str = "KIND_NVDLA"
    device_id: int = 0


class ModelInstanceGroup(msgspec.Struct, frozen=True, kw_only=True):
    """`count` instances on the CPU, or on each of `gpus`."""

    name: str = ""
    kind: str = "KIND_AUTO"
    count: int = 0
    rate_limiter: ModelRateLimiter | None = None
    gpus: list[int] = []
    secondary_devices: list[SecondaryDevice] = []
    profile: list[str] = []
    passive: bool = False
    host_policy: str = ""


# --- schedulers -----------------------------------------------------------------------------------


class ModelQueuePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how many requests may wait; a size or a timeout of 0 is no limit."""

    timeout_action: str = "REJECT"
    default_timeout_microseconds: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


class ModelDynamicBatching(msgspec.Struct, frozen=True, kw_only=True):
    """Requests are put together into batches as they come."""

    preferred_batch_size: list[int] = []
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: ModelQueuePolicy | None = None
    priority_queue_policy: dict[int, ModelQueuePolicy] = {}


class StrategyDirect(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence keeps its slot of one instance."""

    max_queue_delay_microseconds: int = 0
    minimum_slot_utilization: float = 0.0


class StrategyOldest(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of the oldest sequences are batched dynamically."""

    max_candidate_sequences: int = 0
    preferred_batch_size: list[int] = []
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """One signal to the model: the values that mean false and true, or an id's data type."""

    kind: str = "CONTROL_SEQUENCE_START"
    int32_false_true: list[int] = []
    fp32_false_true: list[float] = []
    bool_false_true: list[bool] = []
    data_type: str = "TYPE_INVALID"


class ControlInput(msgspec.Struct, frozen=True, kw_only=True):
    """An input through which the server tells the model where it is in a sequence."""

    name: str = ""
    control: list[Control] = []


class InitialState(msgspec.Struct, frozen=True, kw_only=True):
    """What a state holds when a sequence begins: zeros, or a file's bytes."""

    data_type: str = "TYPE_INVALID"
    dims: list[int] = []
    zero_data: bool | None = None
    data_file: str | None = None
    name: str = ""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor that the server carries from one request of a sequence to the next."""

    input_name: str = ""
    output_name: str = ""
    data_type: str = "TYPE_INVALID"
    dims: list[int] = []
    initial_state: list[InitialState] = []
    use_same_buffer_for_input_output: bool = False
    use_growable_memory: bool = False


class ModelSequenceBatching(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one sequence go to one instance, in order; no strategy means direct."""

    direct: StrategyDirect | None = None
    oldest: StrategyOldest | None = None
    max_sequence_idle_microseconds: int = 0
    control_input: list[ControlInput] = []
    state: list[State] = []
    iterative_sequence: bool = False


class EnsembleStep(msgspec.Struct, frozen=True, kw_only=True):
    """One model of an ensemble; the maps go from the model's tensor to the ensemble's."""

    model_name: str = ""
    model_version: int = 0
    input_map: dict[str, str] = {}
    output_map: dict[str, str] = {}
    model_namespace: str = ""


class ModelEnsembling(msgspec.Struct, frozen=True, kw_only=True):
    """Other models, connected through named tensors."""

    step: list[EnsembleStep] = []
    max_inflight_requests: int = 0


# --- the rest -------------------------------------------------------------------------------------


class ModelParameter(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a parameter that the backend defines."""

    string_value: str = ""


class WarmupInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a warm-up sample: zeros, random values, or a file's bytes."""

    data_type: str = "TYPE_INVALID"
    dims: list[int] = []
    zero_data: bool | None = None
    random_data: bool | None = None
    input_data_file: str | None = None


class ModelWarmup(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is run `count` times before the model is ready."""

    name: str = ""
    batch_size: int = 0
    inputs: dict[str, WarmupInput] = {}
    count: int = 0


class ModelOperations(msgspec.Struct, frozen=True, kw_only=True):
    """Libraries of custom operations that the framework loads first."""

    op_library_filename: list[str] = []


class ModelTransactionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a request may have any number of responses."""

    decoupled: bool = False


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """A repository agent and its settings for this model."""

    name: str = ""
    parameters: dict[str, str] = {}


class ModelRepositoryAgents(msgspec.Struct, frozen=True, kw_only=True):
    """The agents that are asked, in order, when the model is loaded and unloaded."""

    agents: list[Agent] = []


class ModelResponseCache(msgspec.Struct, frozen=True, kw_only=True):
    """Whether responses are looked up in the server's cache."""

    enable: bool = False


class MetricIdentifier(msgspec.Struct, frozen=True, kw_only=True):
    """Names a family of metrics."""

    family: str = ""


class HistogramOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The upper bounds of a histogram's buckets."""

    buckets: list[float] = []


class MetricControl(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one family of metrics for this model."""

    metric_identifier: MetricIdentifier | None = None
    histogram_options: HistogramOptions | None = None


class ModelMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the metrics of this model."""

    metric_control: list[MetricControl] = []


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A model's whole configuration; at most one of the three scheduling choices is set."""

    name: str = ""
    platform: str = ""
    backend: str = ""
    runtime: str = ""
    version_policy: ModelVersionPolicy | None = None
    max_batch_size: int = 0
    input: list[ModelInput] = []
    output: list[ModelOutput] = []
    batch_input: list[BatchInput] = []
    batch_output: list[BatchOutput] = []
    optimization: ModelOptimizationPolicy | None = None
    dynamic_batching: ModelDynamicBatching | None = None
    sequence_batching: ModelSequenceBatching | None = None
    ensemble_scheduling: ModelEnsembling | None = None
    instance_group: list[ModelInstanceGroup] = []
    default_model_filename: str = ""
    cc_model_filenames: dict[str, str] = {}
    metric_tags: dict[str, str] = {}
    parameters: dict[str, ModelParameter] = {}
    model_warmup: list[ModelWarmup] = []
    model_operations: ModelOperations | None = None
    model_transaction_policy: ModelTransactionPolicy | None = None
    model_repository_agents: ModelRepositoryAgents | None = None
    response_cache: ModelResponseCache | None = None
    model_metrics: ModelMetrics | None = None

    @property
    def decoupled(self) -> bool:
        """Whether a request may have any number of responses."""
        policy = self.model_transaction_policy
        return policy is not None and policy.decoupled
