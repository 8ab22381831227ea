"""Authentication: mutual TLS, tokens, and callers and servers that are not trusted."""

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from useradmin.v1.error_reason_pb2 import ERROR_REASON_CALLER_UNAUTHENTICATED
from useradmin.v1.user_admin_pb2 import DELETE_OUTCOME_DELETED, DeleteHmcUserRequest
from useradmin.v1.user_admin_pb2_grpc import UserAdminStub

import delete_user
from conftest import Sandbox, on_node
from failure import Failure


@pytest.mark.parametrize(("identity", "user"), [("by_certificate", "alice"), ("by_token", "bob")])
def test_both_rpcs_succeed(identity: str, user: str, request: pytest.FixtureRequest) -> None:
    stub = UserAdminStub(request.getfixturevalue(identity))

    node, call = stub.DeleteBatchNodeUser.with_call(on_node("node-idle", user), timeout=5)
    assert (node.outcome, node.attempts) == (DELETE_OUTCOME_DELETED, 1)
    assert dict(call.trailing_metadata())["x-request-id"]

    hmc = stub.DeleteHmcUser(DeleteHmcUserRequest(user_name=user), timeout=5)
    assert (hmc.outcome, hmc.user_name) == (DELETE_OUTCOME_DELETED, user)


def test_calls_without_credentials_are_unauthenticated(without_credentials: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        UserAdminStub(without_credentials).DeleteHmcUser(DeleteHmcUserRequest(user_name="carol"), timeout=5)
    failure = Failure(raised.value)
    assert failure.code == grpc.StatusCode.UNAUTHENTICATED
    assert failure.reason == ERROR_REASON_CALLER_UNAUTHENTICATED
    assert failure.detail(ErrorInfo).metadata["cause"] == "nothing_shown"


def test_a_server_of_another_authority_is_not_called(sandbox: Sandbox) -> None:
    before = len(sandbox.calls())
    # The certificate of the client has not issued any other certificate.
    with (
        sandbox.connect(ca="client.pem", cert="client.pem", key="client.key") as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        UserAdminStub(channel).DeleteHmcUser(DeleteHmcUserRequest(user_name="carol"), timeout=5)
    failure = Failure(raised.value)
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    assert "CERTIFICATE_VERIFY_FAILED" in failure.message
    assert failure.details == {}
    assert failure.may_have_deleted
    assert len(sandbox.calls()) == before


def test_health_over_the_same_connection(by_certificate: grpc.Channel) -> None:
    stub = HealthStub(by_certificate)
    for service in ("", "useradmin.v1.UserAdmin"):
        assert stub.Check(HealthCheckRequest(service=service), timeout=5).status == HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(HealthCheckRequest(service="useradmin.v0.UserAdmin"), timeout=5)
    assert Failure(raised.value).code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("batch pool-1 node-running carol", 0, "DELETE_OUTCOME_DELETED\n"),
        ("--allow-missing hmc nobody", 0, "DELETE_OUTCOME_ALREADY_ABSENT\n"),
        ("--validate-only hmc carol", 0, "DELETE_OUTCOME_VALIDATED\n"),
        ("hmc nobody", 1, "do not repeat it before the cause is removed"),
        ("hmc busy", 1, "repeat it after 2 s"),
        ("hmc hmc-defect", 1, "repeat it with --allow-missing after"),
        ("--address 127.0.0.1:0 hmc alice", 1, "this is not the service's answer"),
        ("--ca nowhere.pem hmc alice", 1, "No such file"),
    ],
)
def test_the_program(
    arguments: str, code: int, says: str, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"--ca": "ca.pem", "--cert": "client.pem", "--key": "client.key"}
    shown = [f"{option}={sandbox.credentials / file}" for option, file in files.items()]
    assert delete_user.main([f"--address={sandbox.address}", *shown, *arguments.split()]) == code
    output = capsys.readouterr()
    assert says in (output.err if code else output.out)


def test_the_program_without_tls(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--address={sandbox.plaintext_address}", "--plaintext"]
    assert delete_user.main([*arguments, "--validate-only", "batch", "pool-1", "node-idle", "alice"]) == 0
    assert delete_user.main([*arguments, "hmc", "alice"]) == 0
    assert capsys.readouterr().out == "DELETE_OUTCOME_VALIDATED\nDELETE_OUTCOME_DELETED\n"
    with pytest.raises(SystemExit):
        delete_user.main([*arguments, "--token", "token", "hmc", "alice"])
    assert "--plaintext excludes" in capsys.readouterr().err
