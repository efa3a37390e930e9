"""The options of `tritonpy-supervisor serve` as one table: tritonserver's own, and a few of ours.

A row gives an option's name, the kind of its value, its help and the field of Settings that it
fills; the field gives the default. A row without a field is an option of tritonserver that this
server knows and does not heed yet. Parsing, --help and docs/options.md are all made from the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import option_kinds as kinds
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the command line.

    `field` is the dotted path into Settings, "" for an option without effect. `default` is shown
    in place of the field's own default. A `many` option accumulates when it is repeated, of any
    other the last one counts. `instead` makes the option deprecated and says what to use.
    """

    name: str
    kind: kinds.Kind
    help: str
    field: str = ""
    default: str = ""
    many: bool = False
    instead: str = ""


#: Every option, in the order of the help, under the titles of its sections.
SECTIONS: dict[str, tuple[Option, ...]] = {
    "Server": (
        Option("id", kinds.TEXT, "Name of this server in its metadata and its log.", "server_id"),
        Option(
            "exit-timeout-secs",
            kinds.COUNT,
            "Seconds that requests in flight are given to finish when the server exits.",
            "exit_timeout_secs",
        ),
        Option(
            "strict-readiness",
            kinds.BOOLEAN,
            "Ready only when every model is ready; otherwise as soon as the server answers.",
            "strict_readiness",
        ),
        Option(
            "sticky-readiness",
            kinds.BOOLEAN,
            "Stay ready once all models of the start were, whatever is loaded and unloaded later. "
            "Not an option of tritonserver.",
            "sticky_readiness",
        ),
    ),
    "Models": (
        Option(
            "model-repository",
            kinds.FOLDER,
            "Folder that holds the models; or s3://, gs://, as:// and where in the cloud.",
            "repositories",
            many=True,
        ),
        Option(
            "model-store",
            kinds.FOLDER,
            "The same as --model-repository.",
            "repositories",
            many=True,
        ),
        Option(
            "exit-on-error",
            kinds.BOOLEAN,
            "Exit when a model fails to load at the start, instead of serving the others.",
            "exit_on_error",
        ),
        Option(
            "disable-auto-complete-config",
            kinds.FLAG,
            "Take each model's configuration as its file has it; it must be complete.",
            "models.strict_config",
            default="off",
        ),
        Option(
            "model-control-mode",
            kinds.choice("none", "poll", "explicit"),
            "none: load everything at the start. poll: also follow changes of the repository. "
            "explicit: load what --load-model and the load calls of clients name.",
            "models.mode",
        ),
        Option(
            "repository-poll-secs",
            kinds.COUNT,
            "Seconds between two looks at the repository in mode poll; 0 never looks.",
            "models.poll_secs",
        ),
        Option(
            "load-model",
            kinds.REQUIRED_TEXT,
            "Model to load at the start in mode explicit; * alone stands for all.",
            "models.startup",
            many=True,
        ),
        Option(
            "model-config-name",
            kinds.NAME,
            "Prefer a model's configs/<name>.pbtxt to its config.pbtxt.",
            "models.config_name",
        ),
        Option(
            "model-cache-directory",
            kinds.FOLDER,
            "Folder that keeps what was downloaded from repositories in the cloud.",
            "models.cache_directory",
            default="~/.cache/tritonpy-models",
        ),
        Option(
            "model-load-thread-count",
            kinds.POSITIVE,
            "How many models are loaded at the same time.",
            "models.load_threads",
        ),
        Option(
            "model-load-retry-count",
            kinds.COUNT,
            "How often a load that failed is tried again.",
            "models.load_retries",
        ),
        Option(
            "model-namespacing",
            kinds.BOOLEAN,
            "Allow models of the same name in different repositories.",
            "models.namespacing",
        ),
        Option(
            "model-residency",
            kinds.choice("always", "on-demand"),
            "When models are loaded: as the control mode says, or at the first request; a model's "
            "parameter `residency` overrides it. Not an option of tritonserver.",
            "residency.policy",
        ),
        Option(
            "residency-idle-secs",
            kinds.COUNT,
            "Seconds without a request after which a model on demand is unloaded; 0 for never. "
            "Not an option of tritonserver.",
            "residency.idle_secs",
        ),
        Option(
            "residency-wait-secs",
            kinds.POSITIVE,
            "Seconds that a request waits for its model to be loaded on demand. Not an option of "
            "tritonserver.",
            "residency.wait_secs",
        ),
        Option(
            "residency-max-byte-size",
            kinds.COUNT,
            "Unload models on demand, the least recently used first, while all workers take more "
            "memory; 0 for no limit. Not an option of tritonserver.",
            "residency.max_bytes",
        ),
        Option(
            "residency-min-free-byte-size",
            kinds.COUNT,
            "Unload models on demand, the least recently used first, while less memory is free; 0 "
            "for no limit. Not an option of tritonserver.",
            "residency.min_free_bytes",
        ),
    ),
    "Workers": (
        Option(
            "arena-byte-size",
            kinds.COUNT,
            "Bytes of one shared-memory arena, which costs only what is in use; 0 is half of "
            "the machine's memory. Not an option of tritonserver.",
            "workers.arena_byte_size",
        ),
        Option(
            "worker-start-timeout-secs",
            kinds.POSITIVE,
            "Seconds that a worker process may take to start, before its model is loaded. "
            "Not an option of tritonserver.",
            "workers.start_timeout_secs",
        ),
        Option(
            "environment-cache-directory",
            kinds.FOLDER,
            "Folder that keeps execution environments which were unpacked or installed. Not an "
            "option of tritonserver.",
            "environments.cache_directory",
            default="~/.cache/tritonpy-environments",
        ),
        Option(
            "worker-wheels",
            kinds.FOLDER,
            "Folder with wheels of what a worker needs, for models whose Python is of another "
            "version; without it they come from pip's index. Not an option of tritonserver.",
            "environments.worker_wheels",
        ),
        Option(
            "worker-load-timeout-secs",
            kinds.COUNT,
            "Seconds after which a worker that has not loaded its model is killed; 0 for never. A "
            "model's parameter `load_timeout_secs` overrides it. Not an option of tritonserver.",
            "workers.load_timeout_secs",
        ),
        Option(
            "worker-execution-timeout-secs",
            kinds.COUNT,
            "Seconds after which a worker whose model has not answered is killed; 0 for never. A "
            "model's parameter `execution_timeout_secs` overrides it. Not an option of "
            "tritonserver.",
            "workers.execution_timeout_secs",
        ),
        Option(
            "worker-memory-limit-byte-size",
            kinds.COUNT,
            "Bytes of memory beyond which a worker is killed; 0 for no limit. A model's parameter "
            "`memory_limit_byte_size` overrides it. Not an option of tritonserver.",
            "workers.memory_limit_byte_size",
        ),
        Option(
            "backend-config",
            kinds.SETTING,
            "Setting of one backend, or without a backend's name of all.",
            "workers.backend_config",
            many=True,
        ),
        Option(
            "backend-directory",
            kinds.FOLDER,
            "Folder of python-based backends, each model.py in a folder of the backend's name.",
            "workers.backend_directory",
        ),
        Option(
            "repoagent-directory",
            kinds.FOLDER,
            "Folder of additional repository agents.",
            default="/opt/tritonserver/repoagents",
        ),
    ),
    "HTTP": (
        Option("allow-http", kinds.BOOLEAN, "Serve HTTP.", "http.enabled"),
        Option("http-address", kinds.REQUIRED_TEXT, "Address to listen at.", "http.address"),
        Option("http-port", kinds.PORT, "Port to listen at; 0 picks a free one.", "http.port"),
        Option(
            "reuse-http-port",
            kinds.BOOLEAN,
            "Share the port with other servers that set this too.",
            "http.reuse_port",
        ),
        Option(
            "http-max-input-size",
            kinds.POSITIVE,
            "Largest request body in bytes, after decompression.",
            "http.max_input_bytes",
        ),
        Option(
            "http-header-forward-pattern",
            kinds.PATTERN,
            "Request headers that become request parameters.",
            "http.header_forward_pattern",
        ),
        Option("http-thread-count", kinds.POSITIVE, "Threads that serve HTTP.", default="8"),
        Option(
            "http-restricted-api",
            kinds.RESTRICTION,
            "Answer these groups of calls only when the header <key> has the value.",
            "http.restricted_apis",
            many=True,
        ),
        Option(
            "http-cors-origin",
            kinds.ORIGIN,
            "Origin whose web pages may read answers, as https://app.example, or * for all. "
            "Not an option of tritonserver.",
            "http.cors_origins",
            many=True,
        ),
        Option(
            "http-use-ssl",
            kinds.BOOLEAN,
            "Encrypt with TLS. Not an option of tritonserver.",
            "http.tls.enabled",
        ),
        Option(
            "http-use-ssl-mutual",
            kinds.BOOLEAN,
            "Encrypt with TLS and ask clients for certificates. Not an option of tritonserver.",
            "http.tls.mutual",
        ),
        Option(
            "http-server-cert",
            kinds.FILE,
            "The server's certificate, as PEM. Not an option of tritonserver.",
            "http.tls.certificate",
        ),
        Option(
            "http-server-key",
            kinds.FILE,
            "The key of the server's certificate, as PEM. Not an option of tritonserver.",
            "http.tls.key",
        ),
        Option(
            "http-root-cert",
            kinds.FILE,
            "Certificate that clients' must lead to, as PEM. Not an option of tritonserver.",
            "http.tls.root",
        ),
    ),
    "gRPC": (
        Option("allow-grpc", kinds.BOOLEAN, "Serve gRPC.", "grpc.enabled"),
        Option(
            "grpc-transport",
            kinds.choice("grpcio", "lean"),
            "Who speaks HTTP/2: the library grpcio, or the server itself, at a lower cost for each "
            "request. Not an option of tritonserver.",
            "grpc.transport",
        ),
        Option("grpc-address", kinds.REQUIRED_TEXT, "Address to listen at.", "grpc.address"),
        Option("grpc-port", kinds.PORT, "Port to listen at; 0 picks a free one.", "grpc.port"),
        Option(
            "reuse-grpc-port",
            kinds.BOOLEAN,
            "Share the port with other servers that set this too.",
            "grpc.reuse_port",
        ),
        Option(
            "grpc-keepalive-time",
            kinds.MILLISECONDS,
            "Silence after which the server pings a client.",
            "grpc.keepalive_time_ms",
        ),
        Option(
            "grpc-keepalive-timeout",
            kinds.MILLISECONDS,
            "Time that a client has to answer a ping before its connection is closed.",
            "grpc.keepalive_timeout_ms",
        ),
        Option(
            "grpc-keepalive-permit-without-calls",
            kinds.BOOLEAN,
            "Ping also while no call is in flight.",
            "grpc.keepalive_permit_without_calls",
        ),
        Option(
            "grpc-http2-max-pings-without-data",
            kinds.COUNT,
            "Pings sent while there is no data to send; 0 for any number.",
            "grpc.max_pings_without_data",
        ),
        Option(
            "grpc-http2-min-recv-ping-interval-without-data",
            kinds.MILLISECONDS,
            "A client that pings more often than this, without data, gets a strike.",
            "grpc.min_recv_ping_interval_ms",
        ),
        Option(
            "grpc-http2-max-ping-strikes",
            kinds.COUNT,
            "Strikes after which the connection is closed; 0 for any number.",
            "grpc.max_ping_strikes",
        ),
        Option(
            "grpc-max-connection-age",
            kinds.MILLISECONDS,
            "Age at which a connection is asked to close.",
            "grpc.max_connection_age_ms",
        ),
        Option(
            "grpc-max-connection-age-grace",
            kinds.MILLISECONDS,
            "Time between asking a connection to close and closing it.",
            "grpc.max_connection_age_grace_ms",
        ),
        Option(
            "grpc-header-forward-pattern",
            kinds.PATTERN,
            "Metadata that becomes request parameters.",
            "grpc.header_forward_pattern",
        ),
        Option(
            "grpc-infer-thread-count",
            kinds.integer(2, 128),
            "Threads that serve inference.",
            default="2",
        ),
        Option(
            "grpc-infer-allocation-pool-size",
            kinds.COUNT,
            "Request objects kept for reuse.",
            default="8",
        ),
        Option(
            "grpc-max-response-pool-size",
            kinds.POSITIVE,
            "Responses of one stream that may wait to be sent.",
            default="2147483647",
        ),
        Option(
            "grpc-reflection",
            kinds.BOOLEAN,
            "Tell tools like grpcurl the services and messages of the port; not an option of "
            "tritonserver.",
            "grpc.reflection",
        ),
        Option("grpc-use-ssl", kinds.BOOLEAN, "Encrypt with TLS.", "grpc.tls.enabled"),
        Option(
            "grpc-use-ssl-mutual",
            kinds.BOOLEAN,
            "Encrypt with TLS and ask clients for certificates.",
            "grpc.tls.mutual",
        ),
        Option(
            "grpc-server-cert",
            kinds.FILE,
            "The server's certificate, as PEM.",
            "grpc.tls.certificate",
        ),
        Option(
            "grpc-server-key",
            kinds.FILE,
            "The key of the server's certificate, as PEM.",
            "grpc.tls.key",
        ),
        Option(
            "grpc-root-cert",
            kinds.FILE,
            "Certificate that clients' must lead to, as PEM.",
            "grpc.tls.root",
        ),
        Option(
            "grpc-infer-response-compression-level",
            kinds.choice("none", "low", "medium", "high"),
            "How hard responses are compressed.",
            "grpc.compression",
        ),
        Option(
            "grpc-restricted-protocol",
            kinds.RESTRICTION,
            "Answer these groups of calls only when the metadata triton-grpc-protocol-<key> "
            "has the value.",
            "grpc.restricted_protocols",
            many=True,
        ),
    ),
    "Metrics": (
        Option("allow-metrics", kinds.BOOLEAN, "Serve metrics.", "metrics.enabled"),
        Option(
            "metrics-address",
            kinds.REQUIRED_TEXT,
            "Address to listen at.",
            "metrics.address",
            default="that of --http-address",
        ),
        Option(
            "metrics-port", kinds.PORT, "Port to listen at; 0 picks a free one.", "metrics.port"
        ),
        Option(
            "metrics-use-ssl",
            kinds.BOOLEAN,
            "Encrypt with TLS, by the certificate, key and rules of HTTP. Not an option of "
            "tritonserver.",
            "metrics.use_tls",
        ),
        Option(
            "metrics-interval-ms",
            kinds.MILLISECONDS,
            "Shortest time between two readings of the machine's gauges.",
            "metrics.interval_ms",
        ),
        Option(
            "allow-cpu-metrics",
            kinds.BOOLEAN,
            "Report the machine's CPU and memory use.",
            "metrics.host",
        ),
        Option("allow-gpu-metrics", kinds.BOOLEAN, "Report the use of GPUs.", "metrics.gpus"),
        Option(
            "metrics-config",
            kinds.OWNED_SETTING,
            "counter_latencies, histogram_latencies, summary_latencies=true|false, "
            "summary_quantiles=<quantile>:<error>,…",
            "metrics.config",
            many=True,
        ),
    ),
    "Access": (
        Option(
            "api-keys-file",
            kinds.FILE,
            "TOML file of API keys and their scopes: calls then need a key. Not an option of "
            "tritonserver.",
            "access.api_keys_file",
        ),
        Option(
            "allow-remote-admin",
            kinds.BOOLEAN,
            "Let not only local peers load and unload models, register shared memory, and change "
            "log and trace settings. Not an option of tritonserver.",
            "access.allow_remote_admin",
        ),
    ),
    "Logging": (
        Option(
            "log-verbose",
            kinds.VERBOSITY,
            "Level up to which verbose messages are logged; 0 for none.",
            "log.verbose",
        ),
        Option("log-info", kinds.BOOLEAN, "Log informative messages.", "log.info"),
        Option("log-warning", kinds.BOOLEAN, "Log warnings.", "log.warning"),
        Option("log-error", kinds.BOOLEAN, "Log errors.", "log.error"),
        Option(
            "log-format",
            kinds.choice("default", "ISO8601", any_case=False),
            "How a line begins: LMMDD hh:mm:ss.uuuuuu, or YYYY-MM-DDThh:mm:ssZ L.",
            "log.format",
        ),
        Option("log-file", kinds.FILE, "File to append to, instead of the console.", "log.file"),
    ),
    "Tracing": (
        Option(
            "trace-config",
            kinds.OWNED_SETTING,
            "mode=triton|opentelemetry, level=OFF|TIMESTAMPS|TENSORS, rate=<one in so many>, "
            "count=<traces>; triton,file=<file>, triton,log-frequency=<traces in one file>; "
            "opentelemetry,url=<url>, opentelemetry,resource=<key>=<value> and its bsp_ numbers.",
            "trace.config",
            many=True,
        ),
    ),
    "Response cache and rate limiter": (
        Option(
            "cache-config",
            kinds.OWN_SETTING,
            "Setting of the response cache, which is local or redis: local,size=<bytes>; "
            "redis,host=<host>, redis,port=<port>, and more.",
            "cache.config",
            many=True,
        ),
        Option(
            "cache-directory",
            kinds.FOLDER,
            "Folder of additional caches.",
            default="/opt/tritonserver/caches",
        ),
        Option(
            "rate-limit",
            kinds.choice("execution_count", "off"),
            "Whether instances wait for the resources that their models ask for.",
            "workers.rate_limit",
        ),
        Option(
            "rate-limit-resource",
            kinds.RESOURCE,
            "How much of a resource there is, on one device or on each; then all must be given.",
            "workers.rate_limit_resources",
            default="what the most demanding instance needs",
            many=True,
        ),
    ),
    "Memory and devices": (
        Option(
            "allow-client-shm",
            kinds.BOOLEAN,
            "Let clients register shared memory: true for all clients, false for none.",
            "access.allow_client_shm",
            default="local peers, and keys with the scope",
        ),
        Option(
            "pinned-memory-pool-byte-size",
            kinds.COUNT,
            "Pinned memory for copies.",
            default="268435456",
        ),
        Option(
            "cuda-memory-pool-byte-size",
            kinds.PER_DEVICE_BYTES,
            "Memory of a GPU kept for tensors.",
            default="67108864 each",
            many=True,
        ),
        Option(
            "cuda-virtual-address-size",
            kinds.PER_DEVICE_BYTES,
            "Address space of a growing state on a GPU.",
            default="1073741824 each",
            many=True,
        ),
        Option(
            "min-supported-compute-capability",
            kinds.NUMBER,
            "GPUs below this compute capability are left alone.",
            default="6.0",
        ),
        Option(
            "enable-peer-access",
            kinds.BOOLEAN,
            "Let GPUs reach each other's memory.",
            default="true",
        ),
        Option(
            "buffer-manager-thread-count", kinds.COUNT, "Threads that copy tensors.", default="0"
        ),
        Option(
            "host-policy",
            kinds.NAMED_SETTING,
            "NUMA node or cores (numa-node=0, cpu-cores=0-3) of the instances of a host policy.",
            "workers.host_policies",
            many=True,
        ),
        Option(
            "model-load-gpu-limit",
            kinds.PER_DEVICE_FRACTION,
            "Refuse loads while more than this part of a GPU's memory is in use.",
            "models.gpu_limits",
            many=True,
        ),
    ),
    "Hosted platforms": (
        Option("allow-sagemaker", kinds.BOOLEAN, "Serve SageMaker's calls.", default="false"),
        Option("sagemaker-port", kinds.PORT, "Port of SageMaker's calls.", default="8080"),
        Option(
            "sagemaker-safe-port-range",
            kinds.PORT_RANGE,
            "Ports that other services may listen at.",
        ),
        Option(
            "sagemaker-thread-count", kinds.POSITIVE, "Threads of SageMaker's calls.", default="8"
        ),
        Option("allow-vertex-ai", kinds.BOOLEAN, "Serve Vertex AI's calls.", default="false"),
        Option("vertex-ai-port", kinds.PORT, "Port of Vertex AI's calls.", default="8080"),
        Option(
            "vertex-ai-thread-count", kinds.POSITIVE, "Threads of Vertex AI's calls.", default="8"
        ),
        Option("vertex-ai-default-model", kinds.TEXT, "Model of calls that name none."),
    ),
    "Deprecated": (
        Option(
            "strict-model-config",
            kinds.BOOLEAN,
            "Whether a model's configuration must be complete as its file has it.",
            "models.strict_config",
            instead="--disable-auto-complete-config",
        ),
        Option(
            "response-cache-byte-size",
            kinds.CACHE_SIZE,
            "Bytes of the local response cache.",
            "cache.config",
            instead="--cache-config=local,size=<bytes>",
        ),
        Option(
            "trace-file",
            kinds.spelled("triton,file", kinds.FILE),
            "File of traces.",
            "trace.config",
            many=True,
            instead="--trace-config=triton,file=<file>",
        ),
        Option(
            "trace-level",
            kinds.spelled("level", kinds.TEXT),
            "What is traced.",
            "trace.config",
            many=True,
            instead="--trace-config=level=<level>",
        ),
        Option(
            "trace-rate",
            kinds.spelled("rate", kinds.COUNT),
            "One request in so many.",
            "trace.config",
            many=True,
            instead="--trace-config=rate=<rate>",
        ),
        Option(
            "trace-count",
            kinds.spelled("count", kinds.integer(-1)),
            "Requests to trace, -1 for all.",
            "trace.config",
            many=True,
            instead="--trace-config=count=<count>",
        ),
        Option(
            "trace-log-frequency",
            kinds.spelled("triton,log-frequency", kinds.COUNT),
            "Traces in one file.",
            "trace.config",
            many=True,
            instead="--trace-config=triton,log-frequency=<count>",
        ),
    ),
}

#: Every option by its name.
OPTIONS: dict[str, Option] = {
    option.name: option for options in SECTIONS.values() for option in options
}


def default_text(option: Option) -> str:
    """The default of an option as one would type it, "" where there is none."""
    if option.default or not option.field:
        return option.default
    value: object = Settings()
    for name in option.field.split("."):
        value = getattr(value, name)
    if value is None or value == () or value == {}:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
