package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

func TestBothRpcsSucceed(t *testing.T) {
	identities := []struct {
		name    string
		connect func(*testing.T) *grpc.ClientConn
		user    string
	}{
		{"certificate", byCertificate, "alice"},
		{"token", byToken, "bob"},
	}
	for _, identity := range identities {
		t.Run(identity.name, func(t *testing.T) {
			client := useradminv1.NewUserAdminClient(identity.connect(t))
			var trailer metadata.MD

			onNode, err := client.DeleteBatchNodeUser(within(t, 5*time.Second), onNode("node-idle", identity.user),
				grpc.Trailer(&trailer))
			if err != nil {
				t.Fatal(failureOf(err))
			}
			if onNode.GetOutcome() != useradminv1.DeleteOutcome_DELETE_OUTCOME_DELETED || onNode.GetAttempts() != 1 {
				t.Errorf("on the node: %v", onNode)
			}
			if id := trailer.Get("x-request-id"); len(id) != 1 || id[0] == "" {
				t.Errorf("x-request-id is %q", id)
			}

			onHmc, err := client.DeleteHmcUser(within(t, 5*time.Second), onHmc(identity.user))
			if err != nil {
				t.Fatal(failureOf(err))
			}
			if onHmc.GetOutcome() != useradminv1.DeleteOutcome_DELETE_OUTCOME_DELETED || onHmc.GetUserName() != identity.user {
				t.Errorf("on the HMC: %v", onHmc)
			}
		})
	}
}

func TestCallsWithoutCredentialsAreUnauthenticated(t *testing.T) {
	client := useradminv1.NewUserAdminClient(connection(t, options{}))
	_, err := client.DeleteHmcUser(within(t, 5*time.Second), onHmc("carol"))
	failure := failureOf(err)
	if failure.Code != codes.Unauthenticated ||
		failure.Reason != useradminv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED ||
		failure.ErrorInfo.GetMetadata()["cause"] != "nothing_shown" {
		t.Errorf("%v, %v", failure, failure.ErrorInfo)
	}
}

func TestAServerOfAnotherAuthorityIsNotCalled(t *testing.T) {
	before := len(calls(t))
	// The certificate of the client has not issued any other certificate.
	client := useradminv1.NewUserAdminClient(connection(t, options{
		ca: credential(t, "client.pem"), cert: credential(t, "client.pem"), key: credential(t, "client.key"),
	}))
	_, err := client.DeleteHmcUser(within(t, 5*time.Second), onHmc("carol"))
	failure := failureOf(err)
	if failure.Code != codes.Unavailable || !strings.Contains(failure.Message, "signed by unknown authority") {
		t.Error(failure)
	}
	if failure.ErrorInfo != nil || !failure.MayHaveDeleted() {
		t.Errorf("an error of the library knows what the server has done: %v", failure.ErrorInfo)
	}
	if reached := len(calls(t)) - before; reached != 0 {
		t.Errorf("%d calls reached the server", reached)
	}
}

func TestHealthOverTheSameConnection(t *testing.T) {
	client := healthpb.NewHealthClient(byCertificate(t))
	for _, service := range []string{"", "useradmin.v1.UserAdmin"} {
		response, err := client.Check(within(t, 5*time.Second), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, response, err)
		}
	}
	_, err := client.Check(within(t, 5*time.Second), &healthpb.HealthCheckRequest{Service: "useradmin.v0.UserAdmin"})
	if failure := failureOf(err); failure.Code != codes.NotFound {
		t.Error(failure)
	}
}

func TestTheProgram(t *testing.T) {
	program := func(arguments ...string) (string, error) {
		var output bytes.Buffer
		common := []string{
			"-address", environment(t, "USERADMIN_ADDRESS"), "-ca", credential(t, "ca.pem"),
			"-cert", credential(t, "client.pem"), "-key", credential(t, "client.key"),
		}
		err := run(append(common, arguments...), &output)
		return output.String(), err
	}

	output, err := program("batch", "pool-1", "node-running", "carol")
	if err != nil || output != "DELETE_OUTCOME_DELETED\n" {
		t.Errorf("%q, %v", output, err)
	}
	output, err = program("-validate-only", "hmc", "carol")
	if err != nil || output != "DELETE_OUTCOME_VALIDATED\n" {
		t.Errorf("%q, %v", output, err)
	}
	output, err = program("-allow-missing", "hmc", "nobody")
	if err != nil || output != "DELETE_OUTCOME_ALREADY_ABSENT\n" {
		t.Errorf("%q, %v", output, err)
	}

	failures := []struct {
		arguments []string
		want      string
	}{
		{[]string{"hmc", "nobody"}, "do not repeat it before the cause is removed"},
		{[]string{"hmc", "busy"}, "repeat it after 2s"},
		{[]string{"hmc", "hmc-defect"}, "repeat it with -allow-missing after"},
		{[]string{"-address", "127.0.0.1:0", "hmc", "alice"}, "this is not the service's answer"},
		{[]string{"-key", "", "hmc", "alice"}, "-cert and -key belong together"},
		{[]string{"-plaintext", "hmc", "alice"}, "-plaintext excludes"},
		{[]string{"batch", "pool-1"}, "say whom to delete"},
	}
	for _, failure := range failures {
		if output, err := program(failure.arguments...); err == nil || !strings.Contains(err.Error(), failure.want) {
			t.Errorf("%q: %q, %v", failure.arguments, output, err)
		}
	}
}

func TestTheProgramWithoutTLS(t *testing.T) {
	common := []string{"-address", environment(t, "USERADMIN_PLAINTEXT_ADDRESS"), "-plaintext"}
	calls := []struct {
		arguments []string
		want      string
	}{
		{[]string{"-validate-only", "batch", "pool-1", "node-idle", "alice"}, "DELETE_OUTCOME_VALIDATED\n"},
		{[]string{"hmc", "alice"}, "DELETE_OUTCOME_DELETED\n"},
	}
	for _, call := range calls {
		var output bytes.Buffer
		if err := run(append(common, call.arguments...), &output); err != nil || output.String() != call.want {
			t.Errorf("%q: %q, %v", call.arguments, output.String(), err)
		}
	}
}
