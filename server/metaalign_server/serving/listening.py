"""Where the server listens: an address or a Unix socket, reserved before the engine starts, and TLS."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from metaalign_server.settings import ConfigurationError, Settings

__all__ = ["listening_url", "reserved_socket", "tls_options"]

_SOCKET_MODE = 0o660
"""Users outside the group may not connect: a server without keys would serve them."""


@contextmanager
def reserved_socket(settings: Settings) -> Iterator[socket.socket]:
    """Bind the server's socket, which is closed when the block ends; it does not listen yet.

    A client would wait for the engine on a socket that listens. But two servers may bind the same port while neither
    listens, so a name in Linux's abstract namespace stands for the port until then.

    Raises:
        ConfigurationError: somebody else has the address, or it cannot be used.
    """
    with socket.socket(socket.AF_UNIX) as reservation:
        if settings.uds:
            bound, where = _bind_path(settings.uds), settings.uds
        else:
            where = f"{settings.host}:{settings.port}"
            if settings.port:
                with _naming(where):
                    reservation.bind(f"\0metaalign-server {where}")
            bound = _bind_address(settings.host, settings.port, where)
        try:
            yield bound
        finally:
            bound.close()
            if settings.uds:
                with suppress(OSError):
                    os.unlink(settings.uds)


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigurationError(
            f"cannot listen on {where}: {reason}; choose another with --port or --uds"
        ) from error


def _bind_address(host: str, port: int, where: str) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with _naming(where):
            bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound


def _bind_path(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        with _naming(path):
            if os.path.lexists(path):
                _remove_if_left_over(path)
            bound.bind(path)
            os.chmod(path, _SOCKET_MODE)
    except BaseException:
        bound.close()
        raise
    return bound


def _remove_if_left_over(path: str) -> None:
    """Remove the socket of a server that was killed; nothing else."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, "")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # nobody listens
        else:
            raise OSError(errno.EADDRINUSE, "")


def listening_url(settings: Settings, bound: socket.socket) -> str:
    """The URL of a bound socket, as a client writes it."""
    if settings.uds:
        return f"unix:{settings.uds}"
    host, port = bound.getsockname()[:2]
    scheme = "https" if settings.ssl_certfile else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def tls_options(settings: Settings) -> dict[str, Any]:
    """uvicorn's options for TLS; none if there is no certificate.

    Raises:
        ConfigurationError: a file is missing or cannot be read, or an option makes no sense.
    """
    if not settings.ssl_certfile:
        for name in ("ssl_keyfile", "ssl_ca_certs", "ssl_cert_reqs", "ssl_ciphers"):
            if getattr(settings, name):
                flag = "--" + name.replace("_", "-")
                raise ConfigurationError(f"{flag} needs a certificate: give --ssl-certfile too")
        return {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password=_no_password)
        if settings.ssl_ca_certs:
            context.load_verify_locations(settings.ssl_ca_certs)
        if settings.ssl_ciphers:
            context.set_ciphers(settings.ssl_ciphers)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"TLS cannot be set up: {error}; see --ssl-certfile, --ssl-keyfile, --ssl-ca-certs, --ssl-ciphers"
        ) from error
    if settings.ssl_cert_reqs and not settings.ssl_ca_certs:
        raise ConfigurationError("--ssl-cert-reqs: clients' certificates are checked against --ssl-ca-certs")
    options: dict[str, Any] = {
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_ca_certs": settings.ssl_ca_certs,
        "ssl_cert_reqs": settings.ssl_cert_reqs,
    }
    return options | ({"ssl_ciphers": settings.ssl_ciphers} if settings.ssl_ciphers else {})


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to give its password; decrypt it")
