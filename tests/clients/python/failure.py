"""The errors of useradmin, with their details by type."""

from typing import TypeVar

import grpc
from google.protobuf.any_pb2 import Any
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
from grpc_status import rpc_status
from useradmin.v1.error_details_pb2 import BatchError, HmcError
from useradmin.v1.error_reason_pb2 import ERROR_REASON_UNSPECIFIED, ErrorReason

DOMAIN = "useradmin.v1.UserAdmin"
KINDS: list[type[Message]] = [
    ErrorInfo,
    RequestInfo,
    BadRequest,
    PreconditionFailure,
    ResourceInfo,
    QuotaFailure,
    RetryInfo,
    BatchError,
    HmcError,
]

Detail = TypeVar("Detail", bound=Message)


class Failure(Exception):
    """An error of a call with all its details."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        self.details: dict[type[Message], Message] = {}
        # Details of types that only a newer server knows.
        self.unknown: list[Any] = []

        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            kind = next((kind for kind in KINDS if detail.Is(kind.DESCRIPTOR)), None)
            if kind is None:
                self.unknown.append(detail)
            else:
                self.details[kind] = kind.FromString(detail.value)
        super().__init__(self.message)

    def detail(self, kind: type[Detail]) -> Detail | None:
        """Returns the detail of this kind, if the error has one. There is at most one of each kind."""
        return self.details.get(kind)

    @property
    def reason(self) -> ErrorReason:
        """UNSPECIFIED if it was not set by this service, or is newer than this program; then use the code."""
        info = self.detail(ErrorInfo)
        if info is None or info.domain != DOMAIN:
            return ERROR_REASON_UNSPECIFIED
        try:
            return ErrorReason.Value(info.reason)
        except ValueError:
            return ERROR_REASON_UNSPECIFIED

    @property
    def may_have_deleted(self) -> bool:
        """Whether the user may have been deleted, that is, whether the outcome is unknown.

        An error without ErrorInfo comes from the library, which does not know the outcome.
        """
        info = self.detail(ErrorInfo)
        return info is None or info.metadata["outcome"] == "unknown"

    @property
    def next_step(self) -> str:
        repeat = "repeat it with --allow-missing" if self.may_have_deleted else "repeat it"
        retry = self.detail(RetryInfo)
        if retry is not None:
            return f"{repeat} after {retry.retry_delay.ToTimedelta().total_seconds():g} s"
        if self.detail(ErrorInfo) is None:
            return f"this is not the service's answer; {repeat} when the cause is removed"
        return "do not repeat it before the cause is removed"

    def __str__(self) -> str:
        text = f"{self.code.name}: {self.message}"
        info, request = self.detail(ErrorInfo), self.detail(RequestInfo)
        if info is not None and request is not None:
            text += f" ({info.reason}, request {request.request_id})"
        return f"{text}; {self.next_step}"
