"""Makes the passwords of a new deployment, and a certificate: `make_secrets.py [--root /run] [--host NAME]`.

Each service sees only the folder that is mounted into it. Nothing that exists is written again, so a certificate or a
password of the operator's own stays, and a second start changes nothing. Files are readable by owner and group.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import secrets
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID_DAYS = 90


def write(file: Path, content: str) -> None:
    """Write a file that does not exist yet, readable by owner and group."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(
        os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as output:
        os.fchmod(output.fileno(), 0o440)
        output.write(content)


def password(file: Path) -> str:
    """Return the password in a file, which is made if it is missing."""
    if not file.exists():
        write(file, secrets.token_urlsafe(32))
    return file.read_text(encoding="utf-8").strip()


def self_signed(host: str) -> tuple[str, str]:
    """Return a certificate for `host` and this machine, and its private key, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host != "localhost":
        names.append(x509.DNSName("localhost"))
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the passwords and the certificate that are missing.")
    parser.add_argument("--root", type=Path, default=Path("/run"), help="where the folders are mounted")
    parser.add_argument("--host", default="localhost", help="name in the certificate")
    options = parser.parse_args()
    root: Path = options.root

    database = password(root / "postgres-secrets" / "password")
    redis = password(root / "redis-secrets" / "password")
    password(root / "grafana-secrets" / "admin_password")
    if not (root / "redis-secrets" / "requirepass.conf").exists():
        write(root / "redis-secrets" / "requirepass.conf", f"requirepass {redis}\n")
    for name, url in (
        ("metaalign_database_url", f"postgresql://metaalign:{database}@postgres:5432/metaalign"),
        ("metaalign_redis_url", f"redis://:{redis}@redis:6379/0"),
    ):
        if not (root / "secrets" / name).exists():
            write(root / "secrets" / name, f"{url}\n")
    if not (root / "tls" / "tls.crt").exists():
        certificate, key = self_signed(options.host)
        write(root / "tls" / "tls.key", key)
        write(root / "tls" / "tls.crt", certificate)
        sys.stdout.write(
            f"made a certificate for {options.host} that no one has signed; replace it within {VALID_DAYS} days\n"
        )


if __name__ == "__main__":
    main()
