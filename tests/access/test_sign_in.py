"""Sign-in with OIDC: who shows a token of the issuer is who it says, with what is bound to him, and nobody else is."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from casare_api.decisions.access import Identity
from casare_api.decisions.signin import Claims, NotSignedIn, identity
from casare_api.machinery.credentials import digest
from casare_api.machinery.errors import ApiError
from casare_apiserver import issuer as issuers
from casare_apiserver.auth import Keys
from casare_apiserver.issuer import check_url
from casare_apiserver.oidc import SignIns
from casare_apiserver.settings import Settings
from casare_apiserver.uses import Uses
from casare_apiserver.watch import TRUSTED, Hub
from casare_store.store import Store

from ..api.conftest import Api, is_status, message
from ..conftest import until
from ..store.conftest import with_store
from .issuer import AUDIENCE, Issuer, issuing, rsa_key

__all__ = ["with_store"]
RBAC = "rbac.authorization.k8s.io"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT = Claims()


def bind(api: Api, name: str, role: str, kind: str, subject: str) -> None:
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    api.create("RoleBinding", name, {"roleRef": ref, "subjects": [{"kind": kind, "apiGroup": RBAC, "name": subject}]})


def whoami(api: Api, token: str) -> Any:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    return api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body, key=token)


# -- by a server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kid", ["one", "two"])
def test_who_signs_in_has_what_is_bound_and_nothing_else(api: Api, issuer: Issuer, kid: str) -> None:
    token = issuer.token(kid, sub=f"ada-{kid}", groups=[f"auditors-{kid}"])
    assert whoami(api, token).json()["status"]["userInfo"] == {
        "username": f"oidc:ada-{kid}", "groups": [f"oidc:auditors-{kid}", "system:authenticated"]
    }  # fmt: skip
    refused = message(api.call("GET", api.path("Job"), key=token), 403)
    assert refused.startswith(f'jobs.fleet.casare.net is forbidden: User "oidc:ada-{kid}" cannot list resource "jobs"')
    bind(api, "group", "casare:viewer", "Group", f"oidc:auditors-{kid}")
    assert api.call("GET", api.path("Job"), key=token).status_code == 200
    assert api.call("GET", "/apis/fleet.casare.net/v1/jobs", key=token).status_code == 403, "in this namespace alone"
    assert api.call("GET", api.path("Secret"), key=token).status_code == 403
    bind(api, "user", "casare:operator", "User", f"oidc:ada-{kid}")
    made = api.call("POST", api.path("ConfigMap"), {"metadata": {"name": "c"}}, key=token)
    assert made.status_code == 201
    key = {"metadata": {"name": "k"}, "spec": {"role": "viewer"}}
    assert api.call("POST", api.path("ApiKey"), key, key=token).status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "others"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None}, {"exp": None}, {"exp": "soon"},
        {"exp": 1}, {"nbf": 4e9}, {"sub": None}, {"sub": ["ada"]}, {"sub": ""}, {"groups": {"a": 1}}, {"groups": [1]}, {"exp": 1e300},
        {"exp": 10**400}, {"nbf": 10**400},
    ],
    ids=lambda wrong: str(wrong)[:40],
)  # fmt: skip
def test_a_token_that_is_not_right_is_nobodys(api: Api, issuer: Issuer, wrong: dict[str, Any]) -> None:
    token = issuer.token(**wrong)
    refused = whoami(api, token)
    assert is_status(refused, 401, "Unauthorized") and refused.headers["www-authenticate"] == "Bearer"
    assert token not in refused.text


def _unsigned(token: str) -> str:
    return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{token.split('.')[1]}."


def _shared(token: str, secret: bytes) -> str:
    """Signed with what everybody may know: the issuer's public key, taken for a password."""
    said = f"{_part({'alg': 'HS256', 'kid': 'one'})}.{token.split('.')[1]}"
    return f"{said}.{_encoded(hmac.digest(secret, said.encode(), 'sha256'))}"


def _part(said: Any) -> str:
    return _encoded(json.dumps(said).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_signature_that_is_not_the_issuers_is_nobodys(api: Api, issuer: Issuer) -> None:
    good = issuer.token()
    assert whoami(api, good).status_code == 201
    public = issuer.keys["one"].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = [
        issuer.token(key=rsa_key()), issuer.token("two", key=ec.generate_private_key(ec.SECP256R1())), _unsigned(good),
        _shared(good, public), issuer.token(key=b"x" * 32, algorithm="HS256", kid="hs"),
        issuer.token(key=issuer.keys["one"], algorithm="PS256"), good[:-8] + "AAAAAAAA", good.replace(".", ".A", 1),
        "eyJ.eyJ.x", "eyJhbGciOiJSUzI1NiJ9..", issuer.token(headers={"kid": "nobody"}),
    ]  # fmt: skip
    for token in forged:
        assert is_status(whoami(api, token), 401), token


def test_names_that_are_the_servers_to_give_can_not_be_had_by_a_sign_in(api: Api, issuer: Issuer) -> None:
    """With the prefix they are others: what is bound to them is not theirs."""
    for name in ("admin", "system:masters", f"casare:key:{api.namespace}:boss"):
        token = issuer.token(sub=name, groups=["system:masters", "casare:role:admin"])
        assert whoami(api, token).json()["status"]["userInfo"]["username"] == f"oidc:{name}"
        assert api.call("GET", api.path("Job"), key=token).status_code == 403


def test_a_token_that_runs_out_ends_what_is_open(api: Api, issuer: Issuer) -> None:
    """30 s may lie between the clocks, which are the same here."""
    bind(api, "b", "casare:viewer", "User", "oidc:brief")
    token = issuer.token(sub="brief", exp=time.time() - 28)
    with api.of(token).watch("Job", resourceVersion=api.rv()) as watch:
        assert watch.response.status_code == 200
        watch.rest()  # it ends
    until(lambda: whoami(api, token).status_code == 401, "it is refused")


def test_a_binding_that_is_taken_away_ends_what_lives_by_it_and_nothing_else(api: Api, issuer: Issuer) -> None:
    bind(api, "one", "casare:viewer", "User", "oidc:one")
    bind(api, "two", "casare:viewer", "User", "oidc:two")
    first, second = (api.of(issuer.token(sub=name)) for name in ("one", "two"))
    viewer = api.of(api.issue_key("v", "viewer"))
    rv = api.rv()
    with first.watch("Workflow", resourceVersion=rv) as ends, second.watch("Workflow", resourceVersion=rv) as goes_on, viewer.watch(
        "Workflow", resourceVersion=rv
    ) as too:
        api.delete("RoleBinding", "one")
        assert ends.rest() == []
        assert first.call("GET", api.path("Workflow")).status_code == 403
        api.create("Workflow", "w")
        assert goes_on.take(1) == too.take(1) == [("ADDED", "w")]


def test_a_log_that_is_followed_by_what_was_bound_ends_with_it(api: Api, issuer: Issuer) -> None:
    bind(api, "b", "casare:viewer", "User", "oidc:reader")
    api.create("Job", "j")
    reader = api.of(issuer.token(sub="reader"))
    headers, params = {"authorization": f"Bearer {reader.key}"}, {"follow": "true"}
    with reader.http.stream("GET", api.path("Job", "j", "log"), params=params, headers=headers, timeout=20) as response:
        assert response.status_code == 200
        api.delete("RoleBinding", "b")
        assert response.read() == b""  # it ends


def test_a_key_goes_on_working_beside_it(api: Api) -> None:
    key = api.issue_key("k", "viewer")
    assert api.call("GET", api.path("Job"), key=key).status_code == 200


# -- without one -------------------------------------------------------------------------------------------------------


def sign_ins(issuer: Issuer, **claims: str) -> SignIns:
    return SignIns.of(issuer.url, AUDIENCE, Claims(**claims), None, lambda: datetime.now(UTC))


async def found(signs: SignIns, token: str) -> Identity | int:
    try:
        return await signs.identify(token, "digest of " + token)
    except ApiError as error:
        return error.status


def test_keys_of_the_issuer_are_learned_when_they_are_needed_and_not_for_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(issuer: Issuer) -> None:
        signs = sign_ins(issuer)
        good = [await found(signs, issuer.token(sub=name)) for name in ("a", "b")]
        assert [one.name for one in good if isinstance(one, Identity)] == ["oidc:a", "oidc:b"] and issuer.asked == 1
        issuer.keys["new"] = rsa_key()
        assert await found(signs, issuer.token("new")) == 401, "it was asked just now"
        assert issuer.asked == 1
        monkeypatch.setattr(issuers, "RETRY", 0)
        many = await asyncio.gather(*(found(signs, issuer.token("new", sub=str(n))) for n in range(20)))
        assert all(isinstance(one, Identity) for one in many) and issuer.asked == 2, "once for all of them"
        del issuer.keys["one"]
        monkeypatch.setattr(issuers, "RENEWED", 0)
        await found(signs, issuer.token("new"))
        assert signs.issuer._asking is not None
        await signs.issuer._asking
        assert issuer.asked == 3 and signs.issuer.version == 3

    with issuing(Issuer(keys={"one": rsa_key()})) as issuer:
        asyncio.run(tell(issuer))


def test_while_the_issuer_is_down_what_is_known_is_good_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers, "RETRY", 0)

    async def tell() -> None:
        with issuing(Issuer(keys={"one": rsa_key()})) as issuer:
            knows, knows_not = sign_ins(issuer), sign_ins(issuer)
            assert isinstance(await found(knows, issuer.token()), Identity)
        assert await found(knows_not, issuer.token()) == 503
        assert isinstance(await found(knows, issuer.token(sub="other")), Identity)
        assert await found(knows, issuer.token(headers={"kid": "other"})) == 401

    asyncio.run(tell())


@pytest.mark.parametrize("weak", ["small", "shared", "private", "another issuer"])
def test_keys_that_no_token_should_be_signed_with_are_not_taken(weak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with issuing(Issuer(keys={"one": rsa_key(1024 if weak == "small" else 2048)})) as issuer:
        if weak == "shared":
            issuer.keys, issuer.extra = {}, [{"kty": "oct", "k": "eHh4eHh4", "kid": "one", "alg": "HS256"}]
        elif weak == "private":
            key = ec.generate_private_key(ec.SECP256R1())
            jwk = json.loads(__import__("jwt").algorithms.ECAlgorithm.to_jwk(key))
            issuer.keys, issuer.extra = {}, [{**jwk, "kid": "one"}]
        signs = sign_ins(issuer)
        if weak == "another issuer":
            signs.issuer.url += "/"
        token = issuer.token(key=rsa_key() if weak in ("shared", "private") else issuer.keys["one"])
        assert asyncio.run(found(signs, token)) == 503


DEEP = '{"alg":' + "[" * 6000 + "]" * 6000 + "}"
WRONG_HEADERS = ['{"alg":[]}', '{"alg":{}}', '{"alg":["RS256"]}', '{"alg":7}', '{"alg":null}', '{"kid":[],"alg":"RS256"}',
                 '{"alg":"RS256","kid":' + "9" * 5000 + "}", DEEP, '{"alg":"RS256","crit":[[]]}', '{"alg":"RS256","b64":false}']  # fmt: skip


@pytest.mark.parametrize("said", WRONG_HEADERS, ids=lambda said: said[:20])
def test_a_header_that_no_issuer_writes_is_nobodys(said: str) -> None:
    """It is read before the signature: whoever likes to sends it."""
    with issuing(Issuer(keys={"one": rsa_key()})) as issuer:
        assert asyncio.run(found(sign_ins(issuer), f"{_encoded(said.encode())}.e30.AAAA")) == 401


def test_who_shows_tokens_that_are_not_good_waits_and_what_is_known_goes_on_until_the_log_is_lost(with_store: Any) -> None:
    async def body(store: Store, issuer: Issuer) -> None:
        told: list[bool] = []
        hub = Hub(store.url)
        keys = Keys(store, hub, digest("admin"), Uses(store.pool), lambda scope, is_bad: told.append(is_bad), sign_ins=sign_ins(issuer))
        await hub.start()
        await keys.start()

        async def shown(token: str) -> Identity:
            return await keys.identify({"headers": [(b"authorization", f"Bearer {token}".encode())], "client": ("10.1.2.3", 4000)})

        ada = issuer.token()
        who = await shown(ada)
        assert who.name == "oidc:ada" and told == [False], "before it was verified"
        assert await shown(ada) == who and told == [False], "not any more when it is known"
        for bad in (issuer.token(key=rsa_key()), issuer.token(aud="others"), "eyJhbGciOltdfQ.e30.AAAA"):
            told.clear()
            with pytest.raises(ApiError) as refused:
                await shown(bad)
            assert refused.value.status == 401 and told == [False, True]
        keys.on_unknown = _too_many
        with pytest.raises(ApiError, match="too many"):
            await shown(issuer.token(sub="eve"))
        assert await shown(ada) == who, "a known one does not wait"
        admin = await shown("admin")
        await hub.stop()  # nobody reads the log from here on
        hub.alive_at = asyncio.get_running_loop().time() - TRUSTED + 1
        assert keys.holds(who) and keys.holds(admin)
        hub.alive_at -= 1
        assert not keys.holds(who) and keys.holds(admin)

    with issuing(Issuer(keys={"one": rsa_key()})) as issuer:
        with_store(lambda store: body(store, issuer))


def _too_many(scope: Any, is_bad: bool) -> None:
    raise ApiError.too_many_requests("too many", 1)


def claimed(meant: Claims = DEFAULT, **said: Any) -> Identity | str:
    try:
        return identity({"sub": "ada", "exp": NOW.timestamp() + 60, **said}, meant, NOW)
    except NotSignedIn as why:
        return str(why)


def test_claims_are_read_as_they_are_set() -> None:
    meant = Claims("email", "", "roles", "corp:")
    who = claimed(meant, email="ada@example.com", roles="staff")
    assert isinstance(who, Identity) and (who.name, who.groups, who.role) == ("ada@example.com", ("corp:staff",), "user")
    assert claimed(meant, email="ada@example.com", email_verified=False) == "the token's email is not verified"


@pytest.mark.parametrize("name", ["system:masters", "casare:key:default:boss", "admin"])
def test_without_a_prefix_reserved_names_are_nobodys_and_reserved_groups_are_dropped(name: str) -> None:
    bare = Claims(username_prefix="", groups_prefix="")
    assert "the server's own to give" in str(claimed(bare, sub=name))
    who = claimed(bare, groups=["system:masters", "casare:role:admin", "staff", "staff"])
    assert isinstance(who, Identity) and who.groups == ("staff",)


@pytest.mark.parametrize(("offset", "is_good"), [(60, True), (-29, True), (-31, False)])
def test_clocks_may_differ_a_little(offset: float, is_good: bool) -> None:
    assert isinstance(claimed(exp=NOW.timestamp() + offset), Identity) is is_good
    assert isinstance(claimed(nbf=NOW.timestamp() - offset), Identity) is is_good


@pytest.mark.parametrize("url", ["http://issuer.example", "ftp://127.0.0.1", "issuer", "", "https://", "file:///etc/passwd"])
def test_an_issuer_is_asked_over_https_or_on_this_computer(url: str) -> None:
    with pytest.raises(ValueError, match="begins with https://"):
        check_url(url)
    check_url("https://issuer.example/realm")
    check_url("http://127.0.0.1:5556/dex")


def test_settings_that_do_not_fit_are_said_in_one_line() -> None:
    def wrong(**env: str) -> str:
        settings = Settings.model_validate({"DATABASE_URL": "x", **{f"CASARE_OIDC_{name}": value for name, value in env.items()}})
        with pytest.raises(ValueError) as error:
            settings.sign_ins(lambda: NOW)
        return str(error.value)

    assert wrong(ISSUER_URL="https://x").startswith("CASARE_OIDC_ISSUER_URL needs CASARE_OIDC_AUDIENCE")
    assert wrong(ISSUER_URL="http://x", AUDIENCE="a").startswith("CASARE_OIDC_ISSUER_URL: ")
    assert wrong(ISSUER_URL="https://x", AUDIENCE="a", CA_FILE="/nowhere").startswith("CASARE_OIDC_CA_FILE: ")
    assert Settings.model_validate({"DATABASE_URL": "x"}).sign_ins(lambda: NOW) is None
