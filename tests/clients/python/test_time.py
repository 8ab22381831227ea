"""Deadlines, and the retries of the library."""

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from useradmin.v1.error_reason_pb2 import ERROR_REASON_OUTCOME_UNKNOWN, ERROR_REASON_UPSTREAM_UNAVAILABLE
from useradmin.v1.user_admin_pb2 import DELETE_OUTCOME_ALREADY_ABSENT
from useradmin.v1.user_admin_pb2_grpc import UserAdminStub

from conftest import Call, Sandbox, on_node
from failure import Failure


def test_a_deadline_ends_with_an_unknown_outcome(by_certificate: grpc.Channel) -> None:
    """The server sends the response 100 ms before the deadline in the request.

    The library rounds that deadline up, and the machine may be busy, so the library sometimes ends the call first,
    without details. Only one of several calls must have them.
    """
    for _ in range(10):
        with pytest.raises(grpc.RpcError) as raised:
            UserAdminStub(by_certificate).DeleteBatchNodeUser(on_node("node-idle", "answer-nothing"), timeout=1)
        failure = Failure(raised.value)
        assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert failure.may_have_deleted
        if failure.details:
            break
        print("the library was first")
    assert failure.reason == ERROR_REASON_OUTCOME_UNKNOWN
    assert failure.detail(ErrorInfo).metadata["outcome"] == "unknown"
    assert failure.detail(RetryInfo).retry_delay.ToMilliseconds() > 0


def test_library_does_not_retry_calls_that_the_server_retried(sandbox: Sandbox, by_certificate: grpc.Channel) -> None:
    before = len(sandbox.calls())
    with pytest.raises(grpc.RpcError) as raised:
        UserAdminStub(by_certificate).DeleteBatchNodeUser(on_node("node-idle", "answer-ServerBusy"), timeout=10)
    failure = Failure(raised.value)
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    assert failure.reason == ERROR_REASON_UPSTREAM_UNAVAILABLE
    assert failure.detail(ErrorInfo).metadata["attempts"] == "3"
    # The retry policy includes UNAVAILABLE, but grpc-retry-pushback-ms is negative.
    assert sandbox.calls()[before:] == [Call("Unavailable", "ERROR_REASON_UPSTREAM_UNAVAILABLE")]


def test_library_retries_calls_that_were_not_sent(sandbox: Sandbox, by_certificate: grpc.Channel) -> None:
    stub = UserAdminStub(by_certificate)
    circuit_open = Call("Unavailable", "ERROR_REASON_CIRCUIT_OPEN")
    # Errors of the upstream open its circuit breaker, so no request is sent for 5 seconds.
    for _ in range(100):
        before = len(sandbox.calls())
        with pytest.raises(grpc.RpcError):
            stub.DeleteBatchNodeUser(on_node("node-idle", "answer-InternalError"), timeout=20)
        if sandbox.calls()[before] == circuit_open:
            break
    # The library retried the call after the pause, and the circuit breaker opened again.
    before = len(sandbox.calls())
    response = stub.DeleteBatchNodeUser(on_node("node-idle", "nobody", allow_missing=True), timeout=20)
    assert response.outcome == DELETE_OUTCOME_ALREADY_ABSENT
    # Three attempts with only the backoff of the policy would end earlier: the library obeyed the pushback.
    assert sandbox.calls()[before:] == [circuit_open, Call("Ok", "")]
