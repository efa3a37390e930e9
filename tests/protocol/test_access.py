"""Who may call what on the real server: local peers, restricted groups, API keys, TLS and CORS."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.http as httpclient
import trustme
from support import models
from support.clients import TIMEOUT, Answer, ask, encode_request, grpc_stub, read_answer
from support.servers import RunningServer, launch, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

SECRET = "Secret"
LOAD = "/v2/repository/models/plain/load"
UNLOAD = "/v2/repository/models/nope/unload"
REGISTER = "/v2/systemsharedmemory/region/r/register"
LOG = "/v2/logging"
PROXY_HEADERS = [
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-Proto", "http"),
    ("X-Real-IP", "127.0.0.1"),
    ("Forwarded", "for=127.0.0.1"),
    ("Via", "1.1 proxy"),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    models.identity(folder, "plain", "TYPE_FP32")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    """A server at all addresses, as by default, that restricts nothing of its own."""
    arguments = [
        "--model-control-mode=explicit",
        "--load-model=plain",
        "--http-address=0.0.0.0",
        "--grpc-address=0.0.0.0",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


def address_of_this_machine() -> str:
    """An address of this machine that is not loopback; without one, loopback behind a proxy."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    return "127.0.0.1"


def ask_from_outside(server: RunningServer, method: str, path: str, body: bytes = b"") -> Answer:
    """Ask as another machine would."""
    address = address_of_this_machine()
    headers = {"Host": f"{address}:{server.ports['http']}"}
    if address == "127.0.0.1":
        headers["X-Forwarded-For"] = "10.0.0.1"
    with socket.create_connection((address, server.ports["http"]), TIMEOUT) as connection:
        connection.sendall(encode_request(method, path, body, headers))
        return read_answer(connection)


@contextmanager
def stub_from_outside(
    server: RunningServer,
) -> Iterator[tuple[service_pb2_grpc.GRPCInferenceServiceStub, list[tuple[str, str]]]]:
    """A stub as another machine would have, and the metadata to send with each call."""
    address = address_of_this_machine()
    metadata = [("x-forwarded-for", "10.0.0.1")] if address == "127.0.0.1" else []
    with grpc.insecure_channel(f"{address}:{server.ports['grpc']}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel), metadata


def status(call: object) -> tuple[str, str]:
    """The status and the details of a gRPC call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call()  # type: ignore[operator]
    return raised.value.code().name, raised.value.details()


# --- local peers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]", "LOCALHOST:1"])
def test_a_local_peer_may_load(server: RunningServer, host: str) -> None:
    assert ask(server, "POST", LOAD, headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *PROXY_HEADERS,
        ("Host", "triton.example"),
        ("Host", "localhost.evil.example:8000"),
        ("Host", None),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
    ],
)
def test_a_proxy_or_a_foreign_page_may_change_nothing(
    server: RunningServer, name: str, value: str | None
) -> None:
    for path in (LOAD, UNLOAD, LOG, "/v2/trace/setting", REGISTER):
        answer = ask(server, "POST", path, b"{}", {name: value})
        # without a Host it is no HTTP/1.1, and may be refused for that
        assert answer.status == 403 or (value is None and answer.status == 400)
        if answer.status == 403:
            flag = "--allow-client-shm=true" if path == REGISTER else "--allow-remote-admin"
            assert flag in answer.error
    for path in ("/v2", "/v2/models/plain", LOG, "/v2/health/ready"):
        assert ask(server, "GET", path, headers={name: value or "localhost"}).status == 200


def test_a_page_of_this_machine_may_load(server: RunningServer) -> None:
    headers = {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
    assert ask(server, "POST", LOAD, headers=headers).status == 200


def test_another_machine_may_infer_and_read_and_not_change(server: RunningServer) -> None:
    assert ask_from_outside(server, "GET", "/v2/models/plain").status == 200
    assert ask_from_outside(server, "POST", "/v2/repository/index").status == 200
    for path in (LOAD, UNLOAD, LOG, REGISTER):
        answer = ask_from_outside(server, "POST", path, b"{}")
        assert (answer.status, "local peers only" in answer.error) == (403, True)
    with stub_from_outside(server) as (stub, metadata):
        assert stub.ServerLive(pb.ServerLiveRequest(), metadata=metadata).live
        assert stub.LogSettings(pb.LogSettingsRequest(), metadata=metadata).settings
        change = pb.LogSettingsRequest()
        change.settings["log_info"].bool_param = True
        for method, request in (
            (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="plain")),
            (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="plain")),
            (stub.LogSettings, change),
            (stub.SystemSharedMemoryRegister, pb.SystemSharedMemoryRegisterRequest(name="r")),
            (stub.CudaSharedMemoryUnregister, pb.CudaSharedMemoryUnregisterRequest()),
        ):
            code, details = status(lambda m=method, r=request: m(r, metadata=metadata))
            assert code == "PERMISSION_DENIED"
            assert "--allow-" in details
    assert ask(server, "GET", "/v2/models/plain/ready").status == 200


@pytest.mark.parametrize("header", [name for name, _ in PROXY_HEADERS] + ["Origin"])
def test_a_proxy_may_not_load_over_grpc(server: RunningServer, header: str) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="plain")
    with grpc_stub(server) as stub:
        stub.RepositoryModelLoad(request)
        sent = [(header.lower(), "https://proxy.example")]
        code, _ = status(lambda: stub.RepositoryModelLoad(request, metadata=sent))
        assert code == "PERMISSION_DENIED"
        stub.ServerLive(pb.ServerLiveRequest(), metadata=sent)


# --- restricted groups ----------------------------------------------------------------------------

GROUPS = {
    "health": [("GET", "/v2/health/live"), ("GET", "/v2/models/plain/ready")],
    "metadata": [("GET", "/v2"), ("GET", "/v2/models/plain")],
    "inference": [("POST", "/v2/models/plain/infer"), ("POST", "/v2/models/plain/generate")],
    "shared-memory": [("GET", "/v2/systemsharedmemory/status"), ("POST", REGISTER)],
    "model-config": [("GET", "/v2/models/plain/config")],
    "model-repository": [("POST", "/v2/repository/index"), ("POST", LOAD)],
    "statistics": [("GET", "/v2/models/stats"), ("GET", "/v2/models/plain/stats")],
    "trace": [("GET", "/v2/trace/setting"), ("GET", "/v2/models/plain/trace/setting")],
    "logging": [("GET", LOG), ("POST", LOG)],
}
RPCS = {
    "health": ["ServerLive", "ServerReady", "ModelReady"],
    "metadata": ["ServerMetadata", "ModelMetadata"],
    "inference": ["ModelInfer"],
    "shared-memory": ["SystemSharedMemoryStatus", "CudaSharedMemoryStatus"],
    "model-config": ["ModelConfig"],
    "model-repository": ["RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"],
    "statistics": ["ModelStatistics"],
    "trace": ["TraceSetting"],
    "logging": ["LogSettings"],
}


@pytest.fixture(scope="module")
def restricted(repository: Path) -> Iterator[RunningServer]:
    """A server with a secret for every group, another for health than for the rest."""
    others = ",".join(group for group in GROUPS if group != "health")
    arguments = [
        "--model-control-mode=explicit",
        "--load-model=plain",
        f"--http-restricted-api=health:{SECRET}=up",
        f"--http-restricted-api={others}:admin-key=a=b",
        f"--grpc-restricted-protocol=health:{SECRET.lower()}=up",
        f"--grpc-restricted-protocol={others}:admin-key=a=b",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


@pytest.mark.parametrize("group", GROUPS)
def test_restricted_calls_over_http_need_their_header(
    restricted: RunningServer, group: str
) -> None:
    header, value = (SECRET, "up") if group == "health" else ("admin-key", "a=b")
    expected = f"This API is restricted, expecting header '{header}'"
    for method, path in GROUPS[group]:
        for sent in ({}, {header: "wrong"}, {header: value + " x"}, {"Other": value}):
            answer = ask(restricted, method, path, b"{}", sent)
            assert (answer.status, answer.reason) == (403, "Forbidden")
            assert answer.headers["content-type"] == "text/plain"
            assert answer.error == expected
        assert ask(restricted, method, path, b"{}", {header.upper(): value}).status != 403


def test_a_restriction_is_asked_before_the_method(restricted: RunningServer) -> None:
    assert ask(restricted, "POST", "/v2/health/live").status == 403
    assert ask(restricted, "POST", "/v2/health/live", headers={SECRET: "up"}).status == 405


@pytest.mark.parametrize("group", RPCS)
def test_restricted_calls_over_grpc_need_their_metadata(
    restricted: RunningServer, group: str
) -> None:
    key, value = (SECRET.lower(), "up") if group == "health" else ("admin-key", "a=b")
    header = f"triton-grpc-protocol-{key}"
    expected = f"This protocol is restricted, expecting header '{header}'"
    with grpc.insecure_channel(restricted.grpc) as channel:
        paths = [f"/inference.GRPCInferenceService/{name}" for name in RPCS[group]]
        if group == "health":
            paths.append("/grpc.health.v1.Health/Check")
        for path in paths:
            call = channel.unary_unary(path)
            for sent in ([], [(header, "wrong")], [(key, value)]):
                code = status(lambda c=call, s=sent: c(b"", metadata=s, timeout=TIMEOUT))
                assert code == ("UNAVAILABLE", expected)
            # UNAVAILABLE is the restriction's: nothing else answers an empty message with it
            assert code_of(call, [(header, value)]) != "UNAVAILABLE"


def test_restricted_streams_need_their_metadata(restricted: RunningServer) -> None:
    header = "triton-grpc-protocol-admin-key"
    expected = f"This protocol is restricted, expecting header '{header}'"
    with grpc_stub(restricted) as stub:
        requests = [pb.ModelInferRequest(model_name="nope")]
        refused = status(lambda: list(stub.ModelStreamInfer(iter(requests))))
        assert refused == ("UNAVAILABLE", expected)
        answers = list(stub.ModelStreamInfer(iter(requests), metadata=[(header, "a=b")]))
        assert "unknown model" in answers[0].error_message


def test_metrics_are_not_restricted(restricted: RunningServer) -> None:
    assert ask(restricted, "GET", "/metrics", service="metrics").status == 200


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--http-restricted-api=nope:k=v", "unknown restricted api 'nope'"),
        (
            "--http-restricted-api=health,health:k=v",
            "restricted api 'health' can not be specified in multiple config groups",
        ),
        ("--grpc-restricted-protocol=Health:k=v", "unknown restricted protocol 'Health'"),
        ("--api-keys-file=/nonexistent", "--api-keys-file: cannot read '/nonexistent'"),
    ],
)
def test_a_rule_that_cannot_be_kept_ends_the_start(
    repository: Path, argument: str, message: str
) -> None:
    server = launch(repository, arguments=[argument])
    assert server.process.wait(60) == 1
    assert server.stop() == 1
    assert message in server.log
    server.runtime_directory.rmdir()


# --- API keys -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose keys are named after their scopes; health is open to everybody."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    lines = ['[anonymous]\nscopes = ["health"]']
    for scope in [*GROUPS, "metrics", "all", "all:read"]:
        digest = hashlib.sha256(f"key-{scope}".encode()).hexdigest()
        lines.append(
            f'[[key]]\nname = "{scope}"\nsha256 = "{digest}"\nscopes = [{json.dumps(scope)}]'
        )
    file.write_text("\n".join(lines))
    arguments = [
        "--model-control-mode=explicit",
        "--load-model=plain",
        "--http-address=0.0.0.0",
        f"--api-keys-file={file}",
        "--log-verbose=2",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running
    assert "key-" not in running.log


def bearer(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-{scope}"}


@pytest.mark.parametrize("group", GROUPS)
def test_a_key_opens_its_group_over_http_and_no_other(keyed: RunningServer, group: str) -> None:
    for other, calls in GROUPS.items():
        for method, path in calls:
            answer = ask(keyed, method, path, b"{}", bearer(group))
            if other in (group, "health"):
                assert answer.status not in (401, 403)
            else:
                assert answer.status == 403
                assert f"the API key '{group}' may not" in answer.error


@pytest.mark.parametrize("group", GROUPS)
def test_without_a_known_key_only_what_is_open_is_answered(
    keyed: RunningServer, group: str
) -> None:
    for method, path in GROUPS[group]:
        answer = ask(keyed, method, path, b"{}")
        if group == "health":
            assert answer.status == 200
        else:
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert f"'{group}'" in answer.error
        wrong = ask(keyed, method, path, b"{}", {"Authorization": "Bearer nope"})
        assert (wrong.status, "unknown" in wrong.error) == (401, True)


@pytest.mark.parametrize("group", RPCS)
def test_a_key_opens_its_group_over_grpc_and_no_other(keyed: RunningServer, group: str) -> None:
    key = [("authorization", f"Bearer key-{group}")]
    with grpc.insecure_channel(keyed.grpc) as channel:
        for other, names in RPCS.items():
            for name in names:
                call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
                seen = code_of(call, key)
                if other in (group, "health"):
                    assert seen not in ("UNAUTHENTICATED", "PERMISSION_DENIED")
                else:
                    assert seen == "PERMISSION_DENIED"
                    assert code_of(call, []) == "UNAUTHENTICATED"


def code_of(call: grpc.UnaryUnaryMultiCallable, metadata: list[tuple[str, str]]) -> str:
    try:
        call(b"", metadata=metadata, timeout=TIMEOUT)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_a_key_opens_streams(keyed: RunningServer) -> None:
    requests = [pb.ModelInferRequest(model_name="nope")]
    with grpc_stub(keyed) as stub:
        assert status(lambda: list(stub.ModelStreamInfer(iter(requests))))[0] == "UNAUTHENTICATED"
        key = [("authorization", "Bearer key-inference")]
        answers = list(stub.ModelStreamInfer(iter(requests), metadata=key))
        assert "unknown model" in answers[0].error_message


def test_a_key_admits_a_remote_peer_to_changes(keyed: RunningServer) -> None:
    remote = {"X-Forwarded-For": "10.0.0.1"}
    assert ask(keyed, "POST", LOAD, b"{}", {**remote, **bearer("all")}).status == 200
    assert ask(keyed, "POST", LOAD, b"{}", {**remote, **bearer("model-repository")}).status == 200
    assert ask(keyed, "POST", LOAD, b"{}", {**remote, **bearer("all:read")}).status == 403
    reading = {**remote, **bearer("all:read")}
    assert ask(keyed, "POST", "/v2/repository/index", b"{}", reading).status == 200


def test_metrics_need_a_key_with_their_scope(keyed: RunningServer) -> None:
    def scrape(headers: Mapping[str, str | None]) -> Answer:
        return ask(keyed, "GET", "/metrics", headers=headers, service="metrics")

    assert scrape({}).status == 401
    assert scrape(bearer("inference")).status == 403
    answer = scrape(bearer("metrics"))
    assert answer.status == 200
    assert b"nv_inference_count" in answer.body


# --- what the operator opens ----------------------------------------------------------------------


def test_the_operator_may_open_changes_and_close_shared_memory(repository: Path) -> None:
    arguments = [
        "--model-control-mode=explicit",
        "--allow-remote-admin=true",
        "--allow-client-shm=false",
    ]
    disabled = (
        "Client shared memory is disabled. Start the server with '--allow-client-shm=true' "
        "to enable."
    )
    remote = {"X-Forwarded-For": "10.0.0.1"}
    with serving(repository, arguments=arguments) as server:
        assert ask(server, "POST", LOAD, b"{}", remote).status == 200
        for headers in ({}, remote):
            answer = ask(server, "POST", REGISTER, b"{}", headers)
            assert (answer.status, answer.error) == (501, disabled)
        with grpc_stub(server) as stub:
            request = pb.SystemSharedMemoryUnregisterRequest()
            refused = status(lambda: stub.SystemSharedMemoryUnregister(request))
            assert refused == ("UNIMPLEMENTED", disabled)


# --- TLS and CORS ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(
    repository: Path, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that takes only clients with a certificate, and pages of one origin."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    authority.cert_pem.write_to_path(folder / "root.pem")
    arguments = [
        "--http-use-ssl-mutual=true",
        f"--http-server-cert={folder / 'cert.pem'}",
        f"--http-server-key={folder / 'key.pem'}",
        f"--http-root-cert={folder / 'root.pem'}",
        "--metrics-use-ssl=true",
        "--http-cors-origin=https://app.example",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


def client_context(authority: trustme.CA, certified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certified:
        authority.issue_cert("client.example").configure_cert(context)
    return context


def ask_securely(
    server: RunningServer,
    context: ssl.SSLContext,
    path: str,
    service: str = "http",
    method: str = "GET",
    headers: Mapping[str, str | None] | None = None,
) -> Answer:
    with (
        socket.create_connection(("127.0.0.1", server.ports[service]), TIMEOUT) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(encode_request(method, path, b"", headers))
        return read_answer(connection)


def test_tritonclient_infers_over_tls(secure: RunningServer, authority: trustme.CA) -> None:
    context = client_context(authority, certified=True)
    with httpclient.InferenceServerClient(
        secure.http, ssl=True, ssl_context_factory=lambda: context
    ) as client:
        values = np.arange(300_000, dtype=np.float32)
        tensor = httpclient.InferInput("INPUT0", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        result = client.infer("plain", [tensor])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values)


@pytest.mark.parametrize("service", ["http", "metrics"])
def test_only_clients_with_a_certificate_are_answered(
    secure: RunningServer, authority: trustme.CA, service: str
) -> None:
    path = "/metrics" if service == "metrics" else "/v2/health/live"
    trusted = client_context(authority, certified=True)
    assert ask_securely(secure, trusted, path, service).status == 200
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        ask_securely(secure, client_context(authority, certified=False), path, service)
    with pytest.raises((ConnectionError, AssertionError)):
        ask(secure, "GET", path, service=service)
    assert "Traceback" not in secure.log


def test_pages_of_the_origin_may_read_and_others_may_not(
    secure: RunningServer, authority: trustme.CA
) -> None:
    context = client_context(authority, certified=True)
    ours = {"Origin": "https://app.example"}
    theirs = {"Origin": "https://evil.example"}
    answer = ask_securely(secure, context, "/v2", headers=ours)
    assert (answer.status, answer.headers["vary"]) == (200, "Origin")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    infer = "/v2/models/plain/infer"
    answer = ask_securely(secure, context, infer, "http", "OPTIONS", {**ours, **preflight})
    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in answer.headers["access-control-allow-methods"]
    for method, headers in (("GET", theirs), ("GET", {}), ("OPTIONS", {**theirs, **preflight})):
        answer = ask_securely(secure, context, "/v2", "http", method, headers)
        assert "access-control-allow-origin" not in answer.headers


def test_without_the_option_pages_are_told_nothing(server: RunningServer) -> None:
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert ask(server, "OPTIONS", "/v2", headers=headers).status == 405
    answer = ask(server, "GET", "/v2", headers=headers)
    assert not [name for name in answer.headers if name.startswith("access-control")]
