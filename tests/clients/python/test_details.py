"""Every kind of detail, each asserted on a call that produces it."""

from typing import NamedTuple

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RequestInfo,
    ResourceInfo,
    RetryInfo,
)
from useradmin.v1 import error_reason_pb2 as reasons
from useradmin.v1.error_details_pb2 import BatchError, BatchErrorDetail, ErrorMessage, HmcError
from useradmin.v1.user_admin_pb2 import DeleteBatchNodeUserRequest, DeleteHmcUserRequest
from useradmin.v1.user_admin_pb2_grpc import UserAdminStub

from conftest import CORRELATION, on_node
from failure import DOMAIN, Failure


class Case(NamedTuple):
    """A call and its error: at least this metadata, and exactly these details in addition to those of every error."""

    name: str
    request: DeleteBatchNodeUserRequest | DeleteHmcUserRequest
    code: grpc.StatusCode
    reason: reasons.ErrorReason
    metadata: dict[str, str]
    details: list[Message]
    timeout: float = 5


def batch_error(code: str, status: int, text: str, **values: str) -> BatchError:
    return BatchError(
        code=code,
        message=ErrorMessage(lang="en-US", value=text),
        values=[BatchErrorDetail(key=key, value=value) for key, value in values.items()],
        http_status=status,
        client_request_id=CORRELATION,
    )


CASES = [
    Case(
        name="bad-request-has-all-violations-at-once",
        request=on_node("..", "alice", pool=""),
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason=reasons.ERROR_REASON_INVALID_REQUEST,
        metadata={"upstream": "azure_batch", "outcome": "not_sent", "attempts": "0"},
        details=[
            BadRequest(
                field_violations=[
                    BadRequest.FieldViolation(field="pool_id"),
                    BadRequest.FieldViolation(field="node_id"),
                ]
            )
        ],
    ),
    Case(
        name="precondition-failure-and-batch-error",
        request=on_node("node-rebooting", "alice"),
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason=reasons.ERROR_REASON_NODE_NOT_READY,
        metadata={
            "upstream": "azure_batch",
            "outcome": "not_deleted",
            "attempts": "1",
            "upstream_http_status": "409",
            "upstream_code": "NodeBeingRebooted",
            "account": "sandbox",
            "pool_id": "pool-1",
            "node_id": "node-rebooting",
            "user_name": "alice",
            "client_request_id": CORRELATION,
        },
        details=[
            PreconditionFailure(
                violations=[
                    PreconditionFailure.Violation(
                        type="NODE_STATE",
                        subject="batchAccounts/sandbox/pools/pool-1/nodes/node-rebooting/users/alice",
                    )
                ]
            ),
            batch_error("NodeBeingRebooted", 409, "The specified node is being rebooted."),
        ],
    ),
    Case(
        name="resource-info",
        request=on_node("node-idle", "nobody"),
        code=grpc.StatusCode.NOT_FOUND,
        reason=reasons.ERROR_REASON_USER_NOT_FOUND,
        metadata={"outcome": "not_deleted", "upstream_code": "NodeUserNotFound"},
        details=[
            ResourceInfo(
                resource_type="useradmin/BatchNodeUser",
                resource_name="batchAccounts/sandbox/pools/pool-1/nodes/node-idle/users/nobody",
            ),
            batch_error("NodeUserNotFound", 404, "The specified node user does not exist."),
        ],
    ),
    Case(
        name="quota-failure-and-retry-info",
        request=on_node("node-idle", "answer-TooManyRequests"),
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason=reasons.ERROR_REASON_UPSTREAM_THROTTLED,
        metadata={"outcome": "not_deleted", "upstream_http_status": "429"},
        details=[
            QuotaFailure(violations=[QuotaFailure.Violation(subject="batchAccounts/sandbox")]),
            RetryInfo(retry_delay=Duration(seconds=2)),
            batch_error(
                "TooManyRequests",
                429,
                "Request failed as server encountered too many requests. Please try again.",
            ),
        ],
        # Less than the Retry-After of the upstream, so the server passes it on immediately.
        timeout=1.5,
    ),
    Case(
        name="batch-error-with-values",
        request=on_node("node-idle", "answer-InvalidHeaderValue"),
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason=reasons.ERROR_REASON_UPSTREAM_REJECTED_REQUEST,
        metadata={"outcome": "not_deleted", "upstream_http_status": "400"},
        details=[
            BadRequest(field_violations=[BadRequest.FieldViolation(field="client_request_id")]),
            batch_error(
                "InvalidHeaderValue",
                400,
                "The value for one of the HTTP headers is not in the correct format.",
                HeaderName="client-request-id",
                HeaderValue="{not-a-guid}",
            ),
        ],
    ),
    Case(
        name="hmc-error",
        request=DeleteHmcUserRequest(user_name="template-in-use"),
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason=reasons.ERROR_REASON_TEMPLATE_USER_IN_USE,
        metadata={"upstream": "ibm_hmc", "hmc": "sandbox", "upstream_code": "317"},
        details=[
            PreconditionFailure(
                violations=[
                    PreconditionFailure.Violation(
                        type="TEMPLATE_REFERENCES",
                        subject="hmcs/sandbox/users/00000317-4a7a-11e4-91ee-1c6f65065a91",
                    )
                ]
            ),
            HmcError(
                http_status=409,
                reason=317,
                message="The object cannot be deleted at this time. "
                "One or more users or User Patterns refer to this template user.",
            ),
        ],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_detail(case: Case, by_certificate: grpc.Channel) -> None:
    stub = UserAdminStub(by_certificate)
    method = stub.DeleteHmcUser if isinstance(case.request, DeleteHmcUserRequest) else stub.DeleteBatchNodeUser
    with pytest.raises(grpc.RpcError) as raised:
        method(case.request, timeout=case.timeout)
    failure = Failure(raised.value)
    assert (failure.code, failure.reason) == (case.code, case.reason)

    info = failure.details.pop(ErrorInfo)
    assert (info.domain, info.reason) == (DOMAIN, reasons.ErrorReason.Name(case.reason))
    assert dict(info.metadata) == dict(info.metadata) | case.metadata
    request_id = failure.details.pop(RequestInfo).request_id
    assert request_id
    assert request_id == dict(raised.value.trailing_metadata())["x-request-id"]

    batch = failure.detail(BatchError)
    if batch is not None:
        assert batch.request_id == info.metadata["upstream_request_id"] != ""
        batch.ClearField("request_id")
    without_texts_for_people(failure)
    assert failure.details == {type(detail): detail for detail in case.details}
    assert failure.unknown == []


def without_texts_for_people(failure: Failure) -> None:
    resource = failure.detail(ResourceInfo) or ResourceInfo()
    described = [resource]
    for kind in (PreconditionFailure, QuotaFailure):
        described += (failure.detail(kind) or kind()).violations
    described += (failure.detail(BadRequest) or BadRequest()).field_violations
    for message in described:
        assert message is resource or message.description
        message.ClearField("description")
