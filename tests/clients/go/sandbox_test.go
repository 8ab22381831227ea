package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

// The tests need a fresh sandbox, which the script run.sh of the folder above starts.
func environment(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; run tests/clients/run.sh go", name)
	}
	return value
}

// credential is a file that the sandbox has made.
func credential(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(environment(t, "USERADMIN_CREDENTIALS"), name)
}

func connection(t *testing.T, o options) *grpc.ClientConn {
	t.Helper()
	o.address = environment(t, "USERADMIN_ADDRESS")
	if o.ca == "" {
		o.ca = credential(t, "ca.pem")
	}
	connection, err := o.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func byCertificate(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return connection(t, options{cert: credential(t, "client.pem"), key: credential(t, "client.key")})
}

func byToken(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return connection(t, options{token: credential(t, "token")})
}

func within(t *testing.T, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// correlation is the caller's own ID, which goes to Azure and comes back as it is spelled.
const correlation = "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0"

func onNode(node, user string) *useradminv1.DeleteBatchNodeUserRequest {
	return &useradminv1.DeleteBatchNodeUserRequest{
		PoolId: "pool-1", NodeId: node, UserName: user, ClientRequestId: correlation,
	}
}

func onHmc(user string) *useradminv1.DeleteHmcUserRequest {
	return &useradminv1.DeleteHmcUserRequest{User: &useradminv1.DeleteHmcUserRequest_UserName{UserName: user}}
}

// call is what the server logs of a call that has reached it.
type call struct {
	Message, Code, Reason string
}

// calls reads all of them; the line of a call is written before its answer leaves.
func calls(t *testing.T) []call {
	t.Helper()
	log, err := os.ReadFile(environment(t, "USERADMIN_LOG"))
	if err != nil {
		t.Fatal(err)
	}
	var calls []call
	for line := range bytes.Lines(log) {
		var found call
		// The guide of the sandbox stands between the lines, and is not JSON.
		if json.Unmarshal(line, &found) == nil && found.Message == "call" {
			calls = append(calls, found)
		}
	}
	return calls
}
