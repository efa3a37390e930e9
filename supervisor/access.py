"""Who may call what: one decision for every call, whatever protocol carried it.

Three rules are asked in turn. Triton's restricted groups need a header. With a file of API keys,
every call needs a key that has its scope. And calls that change what the server does are for local
peers, for keys that have the scope, or for everybody when the operator said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from ipaddress import IPv6Address, ip_address
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from .api_keys import ApiKeys, Grant, read
from .restricted import Category, Restrictions, parse
from .settings import Settings

#: Scraping metrics is no call of the protocol: nothing restricts it but API keys.
Scope = Category | Literal["metrics"]

#: Headers that only a proxy writes: behind one, the peer's address is not the caller's.
_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip"})
_PROXY_PREFIX = "x-forwarded-"

#: What a browser says of requests that no page of another site has sent.
_OWN_SITES = frozenset({"same-origin", "same-site", "none"})

_SCHEME = "bearer "


class Reason(Enum):
    """Why a call is refused; each protocol has its own status for it."""

    RESTRICTED = "the header of a restricted group is missing or wrong"
    UNAUTHENTICATED = "an API key is missing, or is unknown"
    FORBIDDEN = "the caller may not do this"
    DISABLED = "nobody may do this"


class Refusal(NamedTuple):
    """Why a call is refused, and the sentence for the client."""

    reason: Reason
    message: str


class Peer(NamedTuple):
    """Who calls: his address, and the headers of the call.

    `address` is an IP address, "" when there is none. `shows_host` is whether the protocol shows
    the server which host the caller believes to talk to.
    """

    address: str
    headers: Sequence[tuple[str, str]]
    shows_host: bool = True

    def values(self, wanted: str) -> list[str]:
        """The values of all headers of a name, which is given in lower case."""
        return [value for name, value in self.headers if name.lower() == wanted]

    def is_local(self) -> bool:
        """Whether the caller sits at this machine, and no web page or proxy speaks through him."""
        return (
            _is_loopback(self.address)
            and not any(map(_is_from_proxy, (name for name, _ in self.headers)))
            and self._means_loopback()
            and all(_is_loopback(_host_of_origin(value)) for value in self.values("origin"))
            and _OWN_SITES.issuperset(map(str.lower, self.values("sec-fetch-site")))
        )

    def _means_loopback(self) -> bool:
        # Another name leading here is a web page's way around its own origin (DNS rebinding).
        if not self.shows_host:
            return True
        hosts = self.values("host")
        return bool(hosts) and all(_is_loopback(_host_of(value)) for value in hosts)


class Policy(NamedTuple):
    """What the operator allows, besides what the protocol's restrictions ask for."""

    keys: ApiKeys | None = None
    allow_remote_admin: bool = False
    allow_client_shm: bool | None = None


class Access:
    """The decision for the calls of one protocol.

    `guards_everything` is whether calls that change nothing have to be asked about too.
    """

    def __init__(
        self,
        policy: Policy,
        restrictions: Restrictions,
        noun: Literal["API", "protocol"],
    ) -> None:
        self._policy = policy
        self._restrictions = restrictions
        self._noun = noun
        self.guards_everything = bool(restrictions) or policy.keys is not None

    def __repr__(self) -> str:
        return f"<Access to {self._noun}: {self._policy}, restricted: {list(self._restrictions)}>"

    def decide(self, category: Scope, changes: bool, peer: Peer) -> Refusal | None:
        """Refuse a call, or return None to let it through.

        `changes` is whether the call changes what the server does; inference does not.
        """
        secret = self._restrictions.get(category)
        if secret is not None and not secret.is_in(peer.headers):
            return Refusal(
                Reason.RESTRICTED,
                f"This {self._noun} is restricted, expecting header '{secret.header}'",
            )
        has_key = False
        if self._policy.keys is not None:
            found = _ask_keys(self._policy.keys, category, changes, peer)
            if isinstance(found, Refusal):
                return found
            has_key = found is not self._policy.keys.anonymous
        if not changes:
            return None
        return self._decide_change(category, has_key, peer)

    def _decide_change(self, category: Scope, has_key: bool, peer: Peer) -> Refusal | None:
        policy = self._policy
        remedy = "--allow-remote-admin"
        allowed = policy.allow_remote_admin
        if category == "shared-memory":
            if policy.allow_client_shm is False:
                return Refusal(
                    Reason.DISABLED,
                    "Client shared memory is disabled. Start the server with "
                    "'--allow-client-shm=true' to enable.",
                )
            remedy = "--allow-client-shm=true"
            allowed = allowed or bool(policy.allow_client_shm)
        if allowed or has_key or peer.is_local():
            return None
        return Refusal(
            Reason.FORBIDDEN,
            f"calls that change {category} are answered for local peers only: call from the "
            "server's own machine without a proxy, send an API key that has the scope "
            f"'{category}' (--api-keys-file), or start the server with {remedy}",
        )


def policy_of(settings: Settings) -> Policy:
    """What the settings allow. Reads the file of keys, and raises InvalidArgumentError for it."""
    access = settings.access
    return Policy(
        read(access.api_keys_file) if access.api_keys_file else None,
        access.allow_remote_admin,
        access.allow_client_shm,
    )


def http_access(policy: Policy, restricted_apis: Iterable[str]) -> Access:
    """The decision for HTTP. Raises InvalidArgumentError for restrictions that cannot be."""
    return Access(policy, parse(restricted_apis, "api"), "API")


def grpc_access(policy: Policy, restricted_protocols: Iterable[str]) -> Access:
    """The decision for gRPC. Raises InvalidArgumentError for restrictions that cannot be."""
    prefix = "triton-grpc-protocol-"
    return Access(policy, parse(restricted_protocols, "protocol", prefix), "protocol")


def _ask_keys(keys: ApiKeys, category: Scope, changes: bool, peer: Peer) -> Grant | Refusal:
    """The grant that opens the call: the key's where it does, else that of everybody."""
    sent = peer.values("authorization")
    grant: Grant | None = None
    if sent:
        scheme, key = sent[0][: len(_SCHEME)], sent[0][len(_SCHEME) :]
        grant = keys.find(key.strip()) if scheme.lower() == _SCHEME else None
        if grant is None:
            return Refusal(
                Reason.UNAUTHENTICATED,
                "the API key is unknown: send 'Authorization: Bearer <key>' with a key of the "
                "server's --api-keys-file",
            )
        if grant.opens(category, changes):
            return grant
    if keys.anonymous.opens(category, changes):
        return keys.anonymous
    if grant is None:
        return Refusal(
            Reason.UNAUTHENTICATED,
            f"an API key with the scope '{category}' is needed: send 'Authorization: Bearer <key>'",
        )
    verb = "change" if changes else "call"
    return Refusal(
        Reason.FORBIDDEN,
        f"the API key '{grant.name}' may not {verb} {category}: its scopes in the server's "
        f"--api-keys-file lack '{category}'",
    )


def _is_from_proxy(header: str) -> bool:
    name = header.lower()
    return name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIX)


def _is_loopback(host: str) -> bool:
    """Whether an address, or a name that nobody can give to another machine, is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _host_of(authority: str) -> str:
    """The host of `host[:port]`, "" where there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _host_of_origin(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""
