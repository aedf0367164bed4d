"""The cluster's own certificate authority: a root, an issuing CA that it signs, and the hosts' certificates.

The root is needed once in a year and can be kept elsewhere; the issuing CA is on the head host, and renews hosts'
certificates there. P-256: OpenSSL (Python, nginx) and Go all take it in TLS 1.3. A certificate says in its OU what role
its host has: the engine's front lets in OU=head alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT_LIFETIME = timedelta(days=3650)
ISSUING_LIFETIME = timedelta(days=730)
LIFETIME = timedelta(days=7)  # of a host's, which renews it by itself after half of that
LONG = timedelta(days=365)  # of one that doesn't
PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
LONGEST_NAME = 64  # characters of a common name: RFC 5280, ub-common-name
SKEW = timedelta(minutes=5)  # by so much hosts' clocks may be behind ours


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM. After a certificate stands the CA's, where that isn't a root."""

    cert: bytes
    key: bytes


def create(cluster: str, *, now: datetime | None = None) -> Pair:
    """A new root."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"Cluster AI root of {cluster}", now)
    builder = (
        _builder(name, name, key.public_key(), now, ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(ca=True), critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def delegate(root: Pair, cluster: str, *, now: datetime | None = None) -> Pair:
    """A new issuing CA, which signs hosts' certificates and no other CA's."""
    signer, key = _signer(root), ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_named(_issuing_name(cluster), now), subject(root.cert), key.public_key(), now, ISSUING_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return _pair(builder.sign(signer, hashes.SHA256()), key)


def issue(
    ca: Pair,
    name: str,
    sans: Iterable[str],
    role: str,
    *,
    lifetime: timedelta = LIFETIME,
    now: datetime | None = None,
) -> Pair:
    """A certificate for a host, as server and as client; it ends with the CA's at the latest, by which it is believed.

    sans: DNS names and IP addresses. A name that is too long for a common name is cut there, and whole among these.
    """
    sans = [*sans, *([name] if len(name) > LONGEST_NAME else ())]
    issuer = x509.load_pem_x509_certificate(ca.cert)
    lifetime = min(lifetime, issuer.not_valid_after_utc - (now or datetime.now(UTC)))
    signer = _signer(ca)
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:LONGEST_NAME]),
        ]
    )
    builder = (
        _builder(named, issuer.subject, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_general(san) for san in dict.fromkeys(sans)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    pair = _pair(builder.sign(signer, hashes.SHA256()), key)
    return pair if issuer.issuer == issuer.subject else Pair(pair.cert + ca.cert, pair.key)


def issued_in(cluster: str, cert: bytes) -> bool:
    """Whether a host's certificate (DER) is of a cluster with this name."""
    try:
        names = x509.load_der_x509_certificate(cert).issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return False
    return [name.value for name in names] == [_issuing_name(cluster)[:LONGEST_NAME]]


def subject(cert: bytes) -> x509.Name:
    return x509.load_pem_x509_certificate(cert).subject


def issuer(cert: bytes) -> x509.Name:
    return x509.load_pem_x509_certificate(cert).issuer


def common_name(cert: bytes) -> str:
    """Empty where it has none, as those of public CAs."""
    found = subject(cert).get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def fingerprint(cert: bytes) -> str:
    """SHA-256 of its DER, as other tools tell it."""
    return x509.load_pem_x509_certificate(cert).fingerprint(hashes.SHA256()).hex(":")


def split(bundle: bytes) -> list[bytes]:
    """The certificates of a PEM file."""
    pem = serialization.Encoding.PEM
    return [cert.public_bytes(pem) for cert in x509.load_pem_x509_certificates(bundle)] if bundle.strip() else []


def unfit(pair: Pair, host: str, now: datetime | None = None) -> str:
    """Why a certificate from elsewhere can't be shown by a server that clients reach as host; empty: it can."""
    try:
        cert = x509.load_pem_x509_certificate(pair.cert)
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return f"is no PEM certificate with an unencrypted PEM key: {error}"
    if key.public_key() != cert.public_key():
        return "is of another key than tls_key in the vault"
    if cert.not_valid_after_utc <= (now or datetime.now(UTC)):
        return f"has expired: {cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    wanted = _general(host)
    held = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    above = f"*.{host.partition('.')[2]}"
    if wanted not in names and not (isinstance(wanted, x509.DNSName) and above.lower() in map(str.lower, held)):
        return f"doesn't hold for {host}, by which clients reach the head host, but for {', '.join(held) or 'no name'}"
    return ""


def expiry(cert: bytes) -> datetime:
    """When a certificate ends."""
    return x509.load_pem_x509_certificate(cert).not_valid_after_utc


def _issuing_name(cluster: str) -> str:
    return f"Cluster AI CA of {cluster}"


def _named(name: str, now: datetime | None) -> x509.Name:
    """With the moment in it: of two CAs with one name, OpenSSL would take any for the issuer."""
    made = f"{now or datetime.now(UTC):%Y%m%d%H%M%S}"
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, made),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:LONGEST_NAME]),
        ]
    )


def _signer(ca: Pair) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(ca.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _general(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime | None, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(cert.public_bytes(pem), private)
