"""The decision who may call what: every category, with and without keys, for every kind of peer."""

from __future__ import annotations

import hashlib
from itertools import product
from typing import cast

import pytest

from tritonpy.supervisor.access import Access, Peer, Policy, Reason, Scope, grpc_access, http_access
from tritonpy.supervisor.api_keys import ApiKeys, Grant
from tritonpy.supervisor.restricted import CATEGORIES

LOCAL = Peer("127.0.0.1", [("Host", "localhost:8000")])
REMOTE = Peer("10.1.2.3", [("Host", "triton.example:8000")])
SHM_DISABLED = (
    "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
)


def keys(anonymous: set[str] | None = None, **scopes: set[str]) -> ApiKeys:
    """A file of keys in which every caller's key is his name."""
    grants = [
        (hashlib.sha256(name.encode()).digest(), Grant(name, frozenset(one)))
        for name, one in scopes.items()
    ]
    return ApiKeys(grants, Grant("anonymous", frozenset(anonymous or ())))


def bearing(key: str, peer: Peer = REMOTE) -> Peer:
    return peer._replace(headers=[*peer.headers, ("Authorization", f"Bearer {key}")])


def reason(policy: Policy, category: str, changes: bool, peer: Peer) -> Reason | None:
    refusal = http_access(policy, ()).decide(category, changes, peer)  # type: ignore[arg-type]
    return refusal and refusal.reason


# --- who is local ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("unix", False),
    ],
)
def test_only_a_loopback_address_is_local(address: str, local: bool) -> None:
    assert LOCAL._replace(address=address).is_local() is local


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("localhost@evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.1", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_only_a_loopback_host_is_local(host: str, local: bool) -> None:
    assert LOCAL._replace(headers=[("host", host)]).is_local() is local


def test_a_missing_host_is_local_only_where_the_protocol_shows_none() -> None:
    assert not Peer("127.0.0.1", []).is_local()
    assert Peer("127.0.0.1", [], shows_host=False).is_local()


def test_two_hosts_must_both_be_loopback() -> None:
    assert not Peer("127.0.0.1", [("Host", "localhost"), ("host", "evil.example")]).is_local()


@pytest.mark.parametrize(
    ("name", "value", "local"),
    [
        ("Forwarded", "for=127.0.0.1", False),
        ("forwarded", "", False),
        ("Via", "1.1 proxy", False),
        ("X-Real-IP", "127.0.0.1", False),
        ("X-Forwarded-For", "127.0.0.1", False),
        ("x-forwarded-host", "localhost", False),
        ("X-FORWARDED-ANYTHING", "", False),
        ("Origin", "http://localhost:3000", True),
        ("Origin", "https://127.0.0.1", True),
        ("Origin", "http://[::1]:80", True),
        ("Origin", "https://evil.example", False),
        ("Origin", "https://localhost.evil.example", False),
        ("Origin", "null", False),
        ("Origin", "localhost", False),
        ("Origin", "http://[::1", False),
        ("Origin", "", False),
        ("Sec-Fetch-Site", "same-origin", True),
        ("Sec-Fetch-Site", "Same-Site", True),
        ("Sec-Fetch-Site", "none", True),
        ("Sec-Fetch-Site", "cross-site", False),
        ("Sec-Fetch-Site", "", False),
        ("User-Agent", "curl", True),
    ],
)
def test_a_header_of_a_proxy_or_of_a_foreign_page_is_not_local(
    name: str, value: str, local: bool
) -> None:
    peer = LOCAL._replace(headers=[*LOCAL.headers, (name, value)])
    assert peer.is_local() is local
    assert peer._replace(headers=[(name, value)], shows_host=False).is_local() is local


# --- changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("peer", [LOCAL, REMOTE])
def test_calls_that_change_nothing_are_everybodys(category: str, peer: Peer) -> None:
    for admin, shm in product((False, True), (None, False, True)):
        assert reason(Policy(None, admin, shm), category, False, peer) is None


@pytest.mark.parametrize("category", CATEGORIES)
def test_calls_that_change_something_are_for_local_peers(category: str) -> None:
    assert reason(Policy(), category, True, LOCAL) is None
    assert reason(Policy(), category, True, REMOTE) is Reason.FORBIDDEN
    assert reason(Policy(allow_remote_admin=True), category, True, REMOTE) is None


def test_the_refusal_names_the_way_out() -> None:
    refusal = Access(Policy(), {}, "API").decide("model-repository", True, REMOTE)
    assert refusal is not None
    assert "--allow-remote-admin" in refusal.message
    assert "scope 'model-repository'" in refusal.message
    refusal = Access(Policy(), {}, "API").decide("shared-memory", True, REMOTE)
    assert refusal is not None
    assert "--allow-client-shm=true" in refusal.message


@pytest.mark.parametrize(
    ("allowed", "admin", "peer", "expected"),
    [
        (None, False, LOCAL, None),
        (None, False, REMOTE, Reason.FORBIDDEN),
        (None, True, REMOTE, None),
        (True, False, LOCAL, None),
        (True, False, REMOTE, None),
        (False, False, LOCAL, Reason.DISABLED),
        (False, False, REMOTE, Reason.DISABLED),
        (False, True, LOCAL, Reason.DISABLED),
    ],
)
def test_client_shared_memory_has_a_rule_of_its_own(
    allowed: bool | None, admin: bool, peer: Peer, expected: Reason | None
) -> None:
    assert reason(Policy(None, admin, allowed), "shared-memory", True, peer) is expected


def test_disabled_shared_memory_is_refused_in_tritons_words_even_with_a_key() -> None:
    access = http_access(Policy(keys(a={"all"}), False, False), ())
    refusal = access.decide("shared-memory", True, bearing("a", LOCAL))
    assert refusal == (Reason.DISABLED, SHM_DISABLED)


def test_client_shared_memory_opens_nothing_else() -> None:
    policy = Policy(allow_client_shm=True)
    assert reason(policy, "model-repository", True, REMOTE) is Reason.FORBIDDEN


# --- keys -----------------------------------------------------------------------------------------

SCOPES: tuple[Scope, ...] = (*cast("tuple[Scope, ...]", CATEGORIES), "metrics")


@pytest.mark.parametrize(("scope", "category"), list(product(SCOPES, SCOPES)))
@pytest.mark.parametrize("changes", [False, True])
def test_a_key_opens_its_scope_and_no_other(scope: str, category: str, changes: bool) -> None:
    policy = Policy(keys(a={scope}))
    for peer in (LOCAL, REMOTE):
        expected = None if scope == category else Reason.FORBIDDEN
        assert reason(policy, category, changes, bearing("a", peer)) is expected
        assert reason(policy, category, changes, peer) is Reason.UNAUTHENTICATED
        assert reason(policy, category, changes, bearing("b", peer)) is Reason.UNAUTHENTICATED


@pytest.mark.parametrize("category", SCOPES)
def test_the_scope_all_opens_everything_and_read_what_changes_nothing(category: str) -> None:
    policy = Policy(keys(whole={"all"}, reader={"all:read"}, one={f"{category}:read"}))
    assert reason(policy, category, True, bearing("whole")) is None
    for name in ("reader", "one"):
        assert reason(policy, category, False, bearing(name)) is None
        assert reason(policy, category, True, bearing(name)) is Reason.FORBIDDEN


@pytest.mark.parametrize("category", CATEGORIES)
def test_what_is_open_to_everybody_needs_no_key_and_changes_stay_local(category: str) -> None:
    policy = Policy(keys({category}, a=set()))
    assert reason(policy, category, False, REMOTE) is None
    assert reason(policy, category, True, LOCAL) is None
    assert reason(policy, category, True, REMOTE) is Reason.FORBIDDEN
    assert reason(policy, category, False, bearing("a")) is None
    assert reason(policy, category, True, bearing("a")) is Reason.FORBIDDEN
    assert reason(policy, category, False, bearing("unknown")) is Reason.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ("Bearer a", True),
        ("bearer a", True),
        ("BEARER  a", True),
        ("Bearer", False),
        ("Bearer ", False),
        ("Basic a", False),
        ("a", False),
        ("", False),
    ],
)
def test_a_key_is_sent_as_a_bearer_token(value: str, known: bool) -> None:
    peer = REMOTE._replace(headers=[("authorization", value)])
    expected = None if known else Reason.UNAUTHENTICATED
    assert reason(Policy(keys(a={"health"})), "health", False, peer) is expected


def test_no_refusal_repeats_a_key() -> None:
    access = http_access(Policy(keys(name_only={"health"})), ())
    refusal = access.decide("health", False, bearing("s3cret"))
    assert refusal is not None
    assert "s3cret" not in refusal.message


# --- restrictions ---------------------------------------------------------------------------------


def test_a_restriction_comes_first_and_in_the_words_of_its_protocol() -> None:
    policy = Policy(keys(a={"health"}))
    http = http_access(policy, ["health:k=v"])
    grpc = grpc_access(policy, ["health:k=v"])
    assert http.decide("health", False, bearing("a")) == (
        Reason.RESTRICTED,
        "This API is restricted, expecting header 'k'",
    )
    assert grpc.decide("health", False, bearing("a")) == (
        Reason.RESTRICTED,
        "This protocol is restricted, expecting header 'triton-grpc-protocol-k'",
    )
    peer = bearing("a")
    peer = peer._replace(headers=[*peer.headers, ("K", "v"), ("triton-grpc-protocol-k", "v")])
    assert http.decide("health", False, peer) is None
    assert grpc.decide("health", False, peer) is None


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_restriction_binds_local_peers_and_opens_nothing_to_others(category: str) -> None:
    access = http_access(Policy(), [f"{category}:k=v"])
    sent = ("k", "v")
    for other in set(CATEGORIES) - {category}:
        assert access.decide(other, False, REMOTE) is None  # type: ignore[arg-type]
    assert access.decide(category, False, LOCAL) is not None  # type: ignore[arg-type]
    remote = REMOTE._replace(headers=[sent])
    assert access.decide(category, False, remote) is None  # type: ignore[arg-type]
    refusal = access.decide(category, True, remote)  # type: ignore[arg-type]
    assert refusal is not None
    assert refusal.reason is Reason.FORBIDDEN


def test_nothing_is_asked_of_reads_without_restrictions_and_keys() -> None:
    assert not http_access(Policy(None, False, False), ()).guards_everything
    assert http_access(Policy(), ["health:k=v"]).guards_everything
    assert http_access(Policy(keys()), ()).guards_everything
