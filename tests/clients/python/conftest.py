"""The sandbox that the tests call. ../run.sh starts a fresh one."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from useradmin.v1.user_admin_pb2 import DeleteBatchNodeUserRequest, DeleteHmcUserRequest
from useradmin.v1.user_admin_pb2_grpc import UserAdminStub

from connection import connect

# ID chosen by the caller, which Azure receives and returns in the same spelling.
CORRELATION = "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0"


def on_node(node: str, user: str, *, pool: str = "pool-1", allow_missing: bool = False) -> DeleteBatchNodeUserRequest:
    return DeleteBatchNodeUserRequest(
        pool_id=pool, node_id=node, user_name=user, allow_missing=allow_missing, client_request_id=CORRELATION
    )


class Call(NamedTuple):
    """Log line of a call that reached the server."""

    code: str
    reason: str


class Sandbox:
    def __init__(self) -> None:
        self.address = self._environment("USERADMIN_ADDRESS")
        self.credentials = Path(self._environment("USERADMIN_CREDENTIALS"))
        self.log = Path(self._environment("USERADMIN_LOG"))
        # Another sandbox, without TLS and credentials.
        self.plaintext_address = self._environment("USERADMIN_PLAINTEXT_ADDRESS")

    @staticmethod
    def _environment(name: str) -> str:
        if not os.environ.get(name):
            pytest.fail(f"{name} is not set; run tests/clients/run.sh python")
        return os.environ[name]

    def connect(self, *, ca: str = "ca.pem", **files: str) -> grpc.Channel:
        shown = {name: self.credentials / file for name, file in files.items()}
        return connect(self.address, self.credentials / ca, **shown)

    def calls(self) -> list[Call]:
        """Returns the log lines of all calls so far.

        The server logs calls in the order of their responses, but with a delay. Therefore this method makes a call that
        deletes nothing, waits for its line, and returns the lines before it.
        """
        with self.connect(cert="client.pem", key="client.key") as channel:
            request = DeleteHmcUserRequest(user_name="carol", validate_only=True)
            _, call = UserAdminStub(channel).DeleteHmcUser.with_call(request, timeout=10)
        last = dict(call.trailing_metadata())["x-request-id"]
        for _ in range(1000):
            lines = self._logged()
            ids = [line["request_id"] for line in lines]
            if last in ids:
                lines = lines[: ids.index(last)]
                return [Call(line["code"], line["reason"]) for line in lines if line["outcome"] != "validated"]
            time.sleep(0.01)
        pytest.fail(f"no call {last} in the log")

    def _logged(self) -> list[dict[str, str]]:
        # The output also contains the guide of the sandbox, and its last line may be incomplete.
        lines = self.log.read_text().split("\n")[:-1]
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry["message"] == "call ended"]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
def by_certificate(sandbox: Sandbox) -> Iterator[grpc.Channel]:
    with sandbox.connect(cert="client.pem", key="client.key") as channel:
        yield channel


@pytest.fixture
def by_token(sandbox: Sandbox) -> Iterator[grpc.Channel]:
    with sandbox.connect(token="token") as channel:
        yield channel


@pytest.fixture
def without_credentials(sandbox: Sandbox) -> Iterator[grpc.Channel]:
    with sandbox.connect() as channel:
        yield channel
