"""Connections to useradmin: the identity of the server, the credentials of the caller, and retries."""

import json
from pathlib import Path

import grpc

# The trailer grpc-retry-pushback-ms controls these retries: it contains the delay if the server refused the
# call before the first DELETE, for the reasons in docs/clients.md. Otherwise it is -1, which stops them. The backoff
# applies if the connection could not be established or was lost.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "useradmin.v1.UserAdmin"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
}

OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # Without keepalive, an unreachable server is detected only after many minutes.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class TokenFile(grpc.AuthMetadataPlugin):
    """Sends the bearer token in the file with each call. It is read each time, because tokens expire after minutes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = self._path.read_text().strip()
        except OSError as error:
            callback((), error)
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def connect(
    address: str, ca: Path, *, cert: Path | None = None, key: Path | None = None, token: Path | None = None
) -> grpc.Channel:
    """Creates a channel that trusts the authority in `ca`. It connects at the first call.

    The caller sends a certificate with its key (mutual TLS) or a token. The certificate belongs to the connection:
    create a new channel when it has been renewed.
    """
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=key.read_bytes() if key else None,
        certificate_chain=cert.read_bytes() if cert else None,
    )
    if token:
        # The library sends call credentials over TLS only, never in plaintext.
        bearer = grpc.metadata_call_credentials(TokenFile(token))
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return grpc.secure_channel(address, credentials, OPTIONS)


def connect_plaintext(address: str) -> grpc.Channel:
    """Creates a channel without TLS and without credentials, for a sandbox on the same machine."""
    return grpc.insecure_channel(address, OPTIONS)
