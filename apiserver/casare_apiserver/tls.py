"""How do clients know this server? A certificate authority of its own, made on first start, and a server certificate.

kubectl sends no token over plain HTTP, so TLS is always there. The authority's key never leaves its directory.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

# Each with forward secrecy and authenticated; TLS 1.3 has none that is not.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
AUTHORITY_YEARS, SERVER_DAYS, RENEW_BEFORE = 10, 397, timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the files are."""

    authority: Path
    certificate: Path
    key: Path


def context(found: Certificates) -> ssl.SSLContext:
    """What the server speaks: TLS 1.2 and 1.3, whatever the system's OpenSSL would still allow."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(CIPHERS)
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.load_cert_chain(found.certificate, found.key)
    return made


def ensure(directory: Path, host: str, now: datetime | None = None) -> Certificates:
    """Makes what is missing or about to expire, and returns where it is."""
    now = now or datetime.now(UTC)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = Certificates(directory / "ca.crt", directory / "server.crt", directory / "server.key")
    if not found.authority.exists() or not (directory / "ca.key").exists():
        _make_authority(directory, now)
        found.certificate.unlink(missing_ok=True)
    if not _is_good(found, host, now):
        _make_server(directory, host, now)
    return found


def _is_good(found: Certificates, host: str, now: datetime) -> bool:
    from cryptography import x509

    if not (found.certificate.exists() and found.key.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(found.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return certificate.not_valid_after_utc - now > RENEW_BEFORE and set(_names(host)) <= set(names)


def _make_authority(directory: Path, now: datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Casare Fleet authority")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(directory / "ca.key", key)
    _write(directory / "ca.crt", _pem(certificate), 0o644)


def _make_server(directory: Path, host: str, now: datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "casare-apiserver")]))
        .issuer_name(authority.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    _write_key(directory / "server.key", key)
    _write(directory / "server.crt", _pem(certificate) + (directory / "ca.crt").read_bytes(), 0o644)


def _names(host: str):  # type: ignore[no-untyped-def]
    """What the server may be called: localhost, this computer's name, the address it listens on."""
    from cryptography import x509

    dns = dict.fromkeys(["localhost", socket.gethostname()])
    addresses = ["127.0.0.1", "::1"]
    try:
        if not ipaddress.ip_address(host).is_unspecified and host not in addresses:
            addresses.append(host)
    except ValueError:
        dns[host] = None
    return [*(x509.DNSName(name) for name in dns), *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses)]


def _usage(signs: bool):  # type: ignore[no-untyped-def]
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )


def _pem(certificate) -> bytes:  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives import serialization

    return bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key) -> None:  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives import serialization

    _write(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                   serialization.NoEncryption()), 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole or not at all; a secret one is never readable by others, not even for a moment."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
        out.write(data)
    staged.replace(path)
