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
	"google.golang.org/grpc/metadata"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

// The tests need a fresh sandbox, which ../run.sh starts.
func environment(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; run tests/clients/run.sh go", name)
	}
	return value
}

// credential returns the path of a file that the sandbox has generated.
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

// correlation is the ID chosen by the caller, which Azure receives and returns in the same spelling.
const correlation = "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0"

func onNode(node, user string) *useradminv1.DeleteBatchNodeUserRequest {
	return &useradminv1.DeleteBatchNodeUserRequest{
		PoolId: "pool-1", NodeId: node, UserName: user, ClientRequestId: correlation,
	}
}

func onHmc(user string) *useradminv1.DeleteHmcUserRequest {
	return &useradminv1.DeleteHmcUserRequest{User: &useradminv1.DeleteHmcUserRequest_UserName{UserName: user}}
}

// call is the log line of a call that reached the server.
type call struct {
	Message, Code, Reason string
}

// calls returns the log lines of all calls so far. The server logs calls in the order of their responses, but with a
// delay. Therefore calls makes a call that deletes nothing, waits for its line, and returns the lines before it.
func calls(t *testing.T) []call {
	t.Helper()
	var trailer metadata.MD
	request := onHmc("carol")
	request.ValidateOnly = true
	client := useradminv1.NewUserAdminClient(byCertificate(t))
	if _, err := client.DeleteHmcUser(within(t, 10*time.Second), request, grpc.Trailer(&trailer)); err != nil {
		t.Fatal(failureOf(err))
	}
	last := trailer.Get("x-request-id")[0]
	for range 1000 {
		if calls, found := loggedUpTo(t, last); found {
			return calls
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no call %s in the log", last)
	return nil
}

// loggedUpTo returns the logged calls before the one with this ID, and whether that one was found.
func loggedUpTo(t *testing.T, last string) (calls []call, found bool) {
	t.Helper()
	log, err := os.ReadFile(environment(t, "USERADMIN_LOG"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		var entry struct {
			call
			RequestID string `json:"request_id"`
			Outcome   string
		}
		// The output also contains the guide of the sandbox, which is not JSON.
		if json.Unmarshal(line, &entry) != nil || entry.Message != "call ended" {
			continue
		}
		if entry.RequestID == last {
			return calls, true
		}
		if entry.Outcome != "validated" {
			calls = append(calls, entry.call)
		}
	}
	return nil, false
}
