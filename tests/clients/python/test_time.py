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
    """The answer leaves the server 100 ms before the deadline that it was told.

    The library rounds that up, and a machine can be busy for longer, so that at times the library ends the call first,
    and then there are no details. One of a few calls must have them.
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


def test_the_library_does_not_repeat_what_the_server_has_tried(sandbox: Sandbox, by_certificate: grpc.Channel) -> None:
    before = len(sandbox.calls())
    with pytest.raises(grpc.RpcError) as raised:
        UserAdminStub(by_certificate).DeleteBatchNodeUser(on_node("node-idle", "answer-ServerBusy"), timeout=10)
    failure = Failure(raised.value)
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    assert failure.reason == ERROR_REASON_UPSTREAM_UNAVAILABLE
    assert failure.detail(ErrorInfo).metadata["attempts"] == "3"
    # UNAVAILABLE is among the codes of the retry policy, but grpc-retry-pushback-ms is negative.
    assert sandbox.calls()[before:] == [Call("Unavailable", "ERROR_REASON_UPSTREAM_UNAVAILABLE")]


def test_the_library_repeats_what_nobody_has_tried(sandbox: Sandbox, by_certificate: grpc.Channel) -> None:
    stub = UserAdminStub(by_certificate)
    circuit_open = Call("Unavailable", "ERROR_REASON_CIRCUIT_OPEN")
    # Errors of the upstream open its circuit breaker. For 5 seconds nothing is sent.
    for _ in range(100):
        before = len(sandbox.calls())
        with pytest.raises(grpc.RpcError):
            stub.DeleteBatchNodeUser(on_node("node-idle", "answer-InternalError"), timeout=20)
        if sandbox.calls()[before] == circuit_open:
            break
    # The library repeated that call after the pause, and the breaker opened again.
    before = len(sandbox.calls())
    response = stub.DeleteBatchNodeUser(on_node("node-idle", "nobody", allow_missing=True), timeout=20)
    assert response.outcome == DELETE_OUTCOME_ALREADY_ABSENT
    # The backoff of the policy alone would be over too soon, three times: the library has waited as it was told.
    assert sandbox.calls()[before:] == [circuit_open, Call("Ok", "")]
