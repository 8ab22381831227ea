"""A connection to useradmin: who the server must be, who calls, and what the library repeats by itself."""

import json
from pathlib import Path

import grpc

# Where the server has tried already, it ends these retries; where nobody has tried, it sets their delay
# (grpc-retry-pushback-ms). The backoff is for connections that cannot be made.
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
    # Without it, a server that vanishes without a word is noticed only after many minutes.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class TokenFile(grpc.AuthMetadataPlugin):
    """Sends the bearer token in the file with each call; it is read each time, because tokens live for minutes."""

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
    """Prepares a connection that trusts the authority in `ca`; it is made by the first call.

    A caller shows a certificate with its key (mutual TLS) or a token. The certificate is that of the connection:
    connect anew when it has been renewed.
    """
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=key.read_bytes() if key else None,
        certificate_chain=cert.read_bytes() if cert else None,
    )
    if token:
        # They are sent over TLS only, so that the token does not leave in plaintext.
        bearer = grpc.metadata_call_credentials(TokenFile(token))
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return grpc.secure_channel(address, credentials, OPTIONS)
