"""The command line: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import msgspec
import pytest

from tritonpy import __version__, supervisor
from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor import cli, command_line
from tritonpy.supervisor.options import OPTIONS, SECTIONS, default_text
from tritonpy.supervisor.settings import Settings

REPOSITORY = "--model-repository=/models"

#: The options of tritonserver, with a value that each of them takes.
TRITON_OPTIONS = {
    "id": "a",
    "exit-timeout-secs": "1",
    "model-repository": "/a",
    "model-store": "/a",
    "exit-on-error": "true",
    "strict-readiness": "true",
    "model-control-mode": "none",
    "repository-poll-secs": "1",
    "model-config-name": "a",
    "model-load-thread-count": "1",
    "model-load-retry-count": "1",
    "model-namespacing": "true",
    "model-residency": "on-demand",
    "enable-peer-access": "true",
    "allow-http": "true",
    "http-address": "127.0.0.1",
    "http-port": "1",
    "reuse-http-port": "true",
    "http-header-forward-pattern": ".*",
    "http-thread-count": "1",
    "http-max-input-size": "1",
    "http-restricted-api": "health,metadata:key=value",
    "allow-grpc": "true",
    "grpc-address": "127.0.0.1",
    "grpc-port": "1",
    "reuse-grpc-port": "true",
    "grpc-header-forward-pattern": ".*",
    "grpc-infer-thread-count": "2",
    "grpc-infer-allocation-pool-size": "1",
    "grpc-max-response-pool-size": "1",
    "grpc-use-ssl": "false",
    "grpc-use-ssl-mutual": "false",
    "grpc-server-cert": "a",
    "grpc-server-key": "a",
    "grpc-root-cert": "a",
    "grpc-infer-response-compression-level": "high",
    "grpc-transport": "lean",
    "grpc-keepalive-time": "1",
    "grpc-keepalive-timeout": "1",
    "grpc-keepalive-permit-without-calls": "1",
    "grpc-http2-max-pings-without-data": "1",
    "grpc-http2-min-recv-ping-interval-without-data": "1",
    "grpc-http2-max-ping-strikes": "1",
    "grpc-max-connection-age": "1",
    "grpc-max-connection-age-grace": "1",
    "grpc-restricted-protocol": "inference:key=value",
    "log-verbose": "1",
    "log-info": "true",
    "log-warning": "true",
    "log-error": "true",
    "log-format": "ISO8601",
    "log-file": "a",
    "allow-sagemaker": "false",
    "sagemaker-port": "1",
    "sagemaker-safe-port-range": "1-2",
    "sagemaker-thread-count": "1",
    "allow-vertex-ai": "false",
    "vertex-ai-port": "1",
    "vertex-ai-thread-count": "1",
    "vertex-ai-default-model": "a",
    "allow-metrics": "true",
    "allow-gpu-metrics": "true",
    "allow-cpu-metrics": "true",
    "metrics-address": "127.0.0.1",
    "metrics-port": "1",
    "metrics-interval-ms": "1",
    "metrics-config": "summary_latencies=true",
    "trace-config": "triton,file=a",
    "cache-config": "local,size=1",
    "cache-directory": "/a",
    "rate-limit": "execution_count",
    "rate-limit-resource": "a:1:0",
    "pinned-memory-pool-byte-size": "1",
    "cuda-memory-pool-byte-size": "0:1",
    "cuda-virtual-address-size": "0:1",
    "min-supported-compute-capability": "6.0",
    "buffer-manager-thread-count": "1",
    "host-policy": "a,numa-node=0",
    "model-load-gpu-limit": "0:0.5",
    "allow-client-shm": "true",
    "backend-directory": "/a",
    "repoagent-directory": "/a",
    "backend-config": "onnxruntime,a=b",
    "strict-model-config": "true",
    "response-cache-byte-size": "1",
    "trace-file": "a",
    "trace-level": "TIMESTAMPS",
    "trace-rate": "1",
    "trace-count": "-1",
    "trace-log-frequency": "1",
}


def parse(*arguments: str) -> Settings:
    return command_line.parse([REPOSITORY, *arguments], environment={})


def refusal(*arguments: str) -> str:
    with pytest.raises(InvalidArgumentError) as refused:
        parse(*arguments)
    return refused.value.message


def test_a_repository_alone_gives_the_defaults() -> None:
    assert parse() == Settings(repositories=("/models",))


@pytest.mark.parametrize("name", TRITON_OPTIONS)
def test_every_option_of_tritonserver_is_accepted_in_both_forms(name: str) -> None:
    value = TRITON_OPTIONS[name]
    assert parse(f"--{name}={value}") == parse(f"--{name}", value)


#: What our own options take that do not take 1.
OUR_OPTIONS = {"http-cors-origin": "https://app.example"}
#: What some options cannot be given without.
NEEDED = {
    "load-model": ["--model-control-mode=explicit"],
    "metrics-use-ssl": ["--http-use-ssl=true"],
}


@pytest.mark.parametrize("origin", ["https://app.example/", "app.example", "https://", "a b", ""])
def test_an_origin_is_written_as_browsers_write_it(origin: str) -> None:
    with pytest.raises(InvalidArgumentError, match="<scheme>://<host>"):
        parse(f"--http-cors-origin={origin}")


def test_metrics_are_not_encrypted_without_the_certificate_of_http() -> None:
    with pytest.raises(InvalidArgumentError, match="--http-use-ssl=true"):
        parse("--metrics-use-ssl=true")
    assert parse("--metrics-use-ssl=true", "--http-use-ssl-mutual=true").metrics.use_tls


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_either_reaches_the_settings_or_says_that_it_has_no_effect(name: str) -> None:
    option = OPTIONS[name]
    notices = Settings(repositories=("/models",)).notices
    if option.kind.metavar:
        value = {**TRITON_OPTIONS, **OUR_OPTIONS}.get(name, "1")
        extra = NEEDED.get(name, [])
        notices = parse(f"--{name}={value}", f"--{name}={value}", *extra).notices
    unheeded = f"--{name} is accepted but has no effect yet"
    assert notices.count(unheeded) == (0 if option.field else 1)


def test_every_field_that_an_option_names_exists_and_takes_its_kind_of_value() -> None:
    for option in OPTIONS.values():
        default = default_text(option)
        if option.field and option.kind.metavar and default and not option.default:
            settings = parse(f"--{option.name}={default}")
            assert msgspec.structs.replace(settings, notices=()) == parse(), option.name


def test_values_reach_their_fields() -> None:
    settings = parse(
        "--id=left",
        "--http-port=0",
        "--grpc-keepalive-time=10",
        "--grpc-max-connection-age=20",
        "--metrics-address=::1",
        "--model-control-mode=EXPLICIT",
        "--load-model=a",
        "--load-model",
        "b",
        "--log-verbose=true",
        "--log-format=ISO8601",
        "--disable-auto-complete-config",
        "--exit-on-error=On",
        "--arena-byte-size=4096",
        "--worker-start-timeout-secs=7",
    )
    assert settings.server_id == "left"
    assert settings.http.port == 0
    assert settings.grpc.keepalive_time_ms == 10
    assert settings.grpc.max_connection_age_ms == 20
    assert settings.metrics.address == "::1"
    assert settings.models.mode == "explicit"
    assert settings.models.startup == ("a", "b")
    assert settings.log.verbose == 1
    assert settings.log.format == "ISO8601"
    assert settings.models.strict_config
    assert settings.exit_on_error
    assert settings.workers.arena_byte_size == 4096
    assert settings.workers.start_timeout_secs == 7


@pytest.mark.parametrize("text", ["true", "TRUE", "on", "1"])
def test_a_boolean_may_be_written_in_three_ways(text: str) -> None:
    assert parse(f"--reuse-http-port={text}").http.reuse_port


@pytest.mark.parametrize("text", ["false", "False", "off", "0"])
def test_a_boolean_may_be_denied_in_three_ways(text: str) -> None:
    assert not parse(f"--allow-grpc={text}").grpc.enabled


def test_repositories_accumulate_in_order_under_both_names() -> None:
    settings = command_line.parse(
        ["--model-store=/a", "--model-repository", "/b", "--model-store=/a"]
    )
    assert settings.repositories == ("/a", "/b")


def test_a_single_value_that_is_repeated_counts_the_last_time() -> None:
    assert parse("--http-port=1", "--http-port=2").http.port == 2


def test_backend_settings_are_sorted_by_backend() -> None:
    workers = parse(
        "--backend-config=default-max-batch-size=8",
        "--backend-config=onnxruntime,default-max-batch-size=2",
        "--backend-config=python,list=a,b=c",
    ).workers
    assert workers.backend_config == {
        "": {"default-max-batch-size": "8"},
        "onnxruntime": {"default-max-batch-size": "2"},
        "python": {"list": "a,b=c"},
    }
    assert workers.backend("onnxruntime") == {"default-max-batch-size": "2"}
    assert workers.backend("python") == {"default-max-batch-size": "8", "list": "a,b=c"}


def test_metrics_listen_where_http_does_unless_told_otherwise() -> None:
    assert parse("--http-address=127.0.0.1").metrics.address == "127.0.0.1"
    both = parse("--metrics-address=::1", "--http-address=127.0.0.1")
    assert both.metrics.address == "::1"


def test_the_newer_option_wins_over_the_deprecated_one() -> None:
    settings = parse("--disable-auto-complete-config", "--strict-model-config=false")
    assert settings.models.strict_config
    assert settings.notices == (
        "--strict-model-config is deprecated: use --disable-auto-complete-config instead",
    )


def test_the_environment_can_switch_off_the_quoting_of_the_log() -> None:
    name = "TRITON_SERVER_ESCAPE_LOG_MESSAGES"
    assert not command_line.parse([REPOSITORY], {name: "0"}).log.escape
    assert command_line.parse([REPOSITORY], {name: "1"}).log.escape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--http-prot=3"], "unknown option --http-prot: did you mean --http-port?"),
        (["--http_port=3"], "unknown option --http_port: did you mean --http-port?"),
        (["-http-port=3"], "unknown option -http-port: did you mean --http-port?"),
        (["--xyzzy"], "unknown option --xyzzy: 'tritonpy-supervisor serve --help' lists them all"),
        (["--http-port"], "--http-port needs a value: --http-port=<port>"),
        (["--id", "--http-port=1"], "--id needs a value: --id=<string>"),
        (
            ["--http-port=x"],
            "invalid value 'x' for --http-port: expected an integer from 0 to 65535",
        ),
        (
            ["--http-port=70000"],
            "invalid value '70000' for --http-port: expected an integer from 0 to 65535",
        ),
        (
            ["--http-max-input-size=0"],
            "invalid value '0' for --http-max-input-size: expected an integer of at least 1",
        ),
        (
            ["--allow-http=yes"],
            "invalid value 'yes' for --allow-http: expected true, on or 1, or false, off or 0",
        ),
        (
            ["--model-control-mode=manual"],
            "invalid value 'manual' for --model-control-mode: expected none, poll or explicit",
        ),
        (
            ["--log-format=iso8601"],
            "invalid value 'iso8601' for --log-format: expected default or ISO8601",
        ),
        (
            ["--model-config-name="],
            "invalid value '' for --model-config-name: "
            "expected a name that is not empty and holds no spaces",
        ),
        (
            ["--backend-config=,a=b"],
            "invalid value ',a=b' for --backend-config: "
            "expected the form <backend>,<setting>=<value> or <setting>=<value>",
        ),
        (
            ["--http-header-forward-pattern=a("],
            "invalid value 'a(' for --http-header-forward-pattern: expected a regular expression "
            "in Python's form (missing ), unterminated subpattern at position 1)",
        ),
        (
            ["--rate-limit-resource=a"],
            "invalid value 'a' for --rate-limit-resource: "
            "expected the form <name>:<count>[:<device>]",
        ),
        (
            ["--disable-auto-complete-config=true"],
            "--disable-auto-complete-config takes no value, but was given 'true'",
        ),
        (
            ["models"],
            "unexpected argument 'models': every option begins with -- "
            "and is followed by its value, if it takes one",
        ),
        (
            ["--load-model=a"],
            "Use of '--load-model' requires setting '--model-control-mode=explicit' as well.",
        ),
        (
            ["--model-control-mode=explicit", "--load-model=*", "--load-model=a"],
            "--load-model=* loads every model and must be the only --load-model: "
            "leave out either '*' or 'a'",
        ),
        (
            ["--cache-config=local,size=1", "--response-cache-byte-size=1"],
            "Incompatible flags --response-cache-byte-size and --cache-config both provided. "
            "Please provide one or the other.",
        ),
    ],
)
def test_a_wrong_command_line_is_refused_with_a_sentence(
    arguments: list[str], message: str
) -> None:
    assert refusal(*arguments) == message


def test_a_missing_repository_is_refused_with_an_example() -> None:
    with pytest.raises(InvalidArgumentError, match=r"--model-repository is missing: .*/srv/models"):
        command_line.parse([])


def test_serve_hands_the_settings_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Settings] = []

    def run(settings: Settings) -> int:
        received.append(settings)
        return 3

    server = ModuleType("tritonpy.supervisor.server")
    vars(server)["run"] = run
    monkeypatch.setitem(sys.modules, server.__name__, server)
    monkeypatch.setattr(supervisor, "server", server, raising=False)
    assert cli.main(["serve", REPOSITORY, "--http-port=1"]) == 3
    assert [settings.http.port for settings in received] == [1]


def test_a_refusal_goes_to_standard_error_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--http-prot=1"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "Error: unknown option --http-prot: did you mean --http-port?\n"
    assert captured.out == ""


def test_the_help_of_serve_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--http-port=x", "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for title, options in SECTIONS.items():
        assert f"\n{title}:\n" in captured.out
        for option in options:
            assert f"\n  --{option.name}" in captured.out


def test_the_help_of_the_program_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "\n  serve " in capsys.readouterr().out
    assert cli.main([]) == 1
    assert "\n  serve " in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tritonpy-supervisor {__version__}\n"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("serv", "unknown command 'serv': did you mean 'serve'?"),
        ("xyzzy", "unknown command 'xyzzy': 'tritonpy-supervisor --help' lists them all"),
        (
            "--http-port=1",
            "a command is missing before --http-port=1: "
            "did you mean 'tritonpy-supervisor serve --http-port=1 ...'?",
        ),
    ],
)
def test_an_unknown_command_is_refused(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word]) == 1
    assert capsys.readouterr().err == f"Error: {message}\n"


def test_parsing_imports_neither_a_web_server_nor_numpy() -> None:
    program = (
        "import sys; from tritonpy.supervisor import cli, command_line; "
        f"command_line.parse(['{REPOSITORY}']); "
        "print([m for m in ('aiohttp', 'grpc', 'numpy', 'asyncio') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"


def test_the_old_options_of_tracing_are_spellings_of_the_new_one() -> None:
    settings = parse(
        "--trace-file=/t.json",
        "--trace-level=TIMESTAMPS",
        "--trace-level=TENSORS",
        "--trace-rate=5",
        "--trace-count=-1",
        "--trace-log-frequency=7",
        "--trace-config=rate=6",
    )
    assert settings.trace.config == (
        "triton,file=/t.json",
        "level=TIMESTAMPS",
        "level=TENSORS",
        "rate=5",
        "count=-1",
        "triton,log-frequency=7",
        "rate=6",
    )
    assert "use --trace-config=rate=<rate> instead" in " ".join(settings.notices)


def test_settings_of_the_response_cache_are_gathered_by_the_caches_name() -> None:
    given = ["redis,host=h", "redis,port=1", "redis,password=a,b=c", "redis,user="]
    settings = parse(*(f"--cache-config={text}" for text in given))
    assert settings.cache.config == {
        "redis": {"host": "h", "port": "1", "password": "a,b=c", "user": ""}
    }
    settings = parse("--response-cache-byte-size=1024")
    assert settings.cache.config == {"local": {"size": "1024"}}


@pytest.mark.parametrize("text", ["local", "local,size", "size=1", ",size=1", "local,=1"])
def test_a_setting_of_the_response_cache_names_the_cache_and_the_setting(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected the form <name>,<setting>=<value>"):
        parse(f"--cache-config={text}")
