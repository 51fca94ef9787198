"""What the tests of access share: one server that trusts a small issuer of sign-ins beside its keys."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from casare_store import embedded

from ..api.conftest import Api, QuickServer
from ..conftest import drop_database, new_database
from .issuer import AUDIENCE, Issuer, issuing, rsa_key


@dataclass
class SignInServer(QuickServer):
    """A server that believes an issuer."""

    issuer: Issuer = field(default_factory=Issuer)

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "CASARE_OIDC_ISSUER_URL": self.issuer.url, "CASARE_OIDC_AUDIENCE": AUDIENCE}


@pytest.fixture(scope="package")
def issuer() -> Iterator[Issuer]:
    with issuing(Issuer(keys={"one": rsa_key(), "two": ec.generate_private_key(ec.SECP256R1())})) as found:
        yield found


@pytest.fixture(scope="package")
def shared(postgres: embedded.Server, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignInServer]:
    """One server for all of them; it logged no traceback, no key and no token."""
    found = SignInServer(new_database(postgres), tmp_path_factory.mktemp("access"), issuer=issuer)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        drop_database(postgres, found.database)
    for name in ("apiserver", "controller"):
        text = found.whole_log(name)
        assert "Traceback" not in text, text[max(text.find("Traceback") - 500, 0) :][:4000]
        assert found.admin_key not in text and not re.search(r"crpa_[A-Za-z0-9_-]{20}|eyJ[A-Za-z0-9]{10}", text), name


@pytest.fixture
def api(shared: SignInServer) -> Iterator[Api]:
    """The admin in a namespace of this test's own."""
    found = Api(shared, "n-" + secrets.token_hex(5))
    found.create("Namespace", found.namespace, {})
    yield found
    found.close()
