package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

// The server sends the response 100 ms before the deadline. On a busy machine, the library may end the call first,
// without details, so only one of several calls must have them.
func TestADeadlineEndsWithAnUnknownOutcome(t *testing.T) {
	client := useradminv1.NewUserAdminClient(byCertificate(t))
	for range 10 {
		_, err := client.DeleteBatchNodeUser(within(t, time.Second), onNode("node-idle", "answer-nothing"))
		failure := failureOf(err)
		if failure.Code != codes.DeadlineExceeded || !failure.MayHaveDeleted() {
			t.Fatal(failure)
		}
		if failure.ErrorInfo == nil {
			t.Log("the library was first")
			continue
		}
		if failure.Reason != useradminv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN ||
			failure.ErrorInfo.GetMetadata()["outcome"] != "unknown" ||
			failure.RetryInfo.GetRetryDelay().AsDuration() <= 0 {
			t.Errorf("%v, %v", failure, failure.ErrorInfo)
		}
		return
	}
	t.Error("no answer had details")
}

// compare reports calls that unexpectedly reached the server, and expected calls that did not.
func compare(t *testing.T, want, got []call) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls that reached the server, -want +got:\n%s", diff)
	}
}

func TestTheLibraryDoesNotRetryCallsThatTheServerHasRetried(t *testing.T) {
	client := useradminv1.NewUserAdminClient(byCertificate(t))
	before := len(calls(t))
	_, err := client.DeleteBatchNodeUser(within(t, 10*time.Second), onNode("node-idle", "answer-ServerBusy"))

	failure := failureOf(err)
	if failure.Code != codes.Unavailable ||
		failure.Reason != useradminv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE ||
		failure.ErrorInfo.GetMetadata()["attempts"] != "3" {
		t.Errorf("%v, %v", failure, failure.ErrorInfo)
	}
	// UNAVAILABLE is among the codes of the retry policy, but grpc-retry-pushback-ms is negative.
	want := []call{{"call ended", "Unavailable", "ERROR_REASON_UPSTREAM_UNAVAILABLE"}}
	compare(t, want, calls(t)[before:])
}

func TestTheLibraryRetriesCallsForWhichTheServerSentNothing(t *testing.T) {
	client := useradminv1.NewUserAdminClient(byCertificate(t))
	refused := call{"call ended", "Unavailable", "ERROR_REASON_CIRCUIT_OPEN"}
	// Errors of the upstream open its circuit breaker, so no request is sent for 5 seconds.
	for range 100 {
		before := len(calls(t))
		_, err := client.DeleteBatchNodeUser(within(t, 20*time.Second), onNode("node-idle", "answer-InternalError"))
		if err == nil {
			t.Fatal("no error")
		}
		if calls(t)[before] == refused {
			break
		}
	}
	// The library retried the call after the pause, and the circuit breaker opened again.
	before := len(calls(t))
	request := onNode("node-idle", "nobody")
	request.AllowMissing = true
	response, err := client.DeleteBatchNodeUser(within(t, 20*time.Second), request)
	if err != nil {
		t.Fatal(failureOf(err))
	}
	if response.GetOutcome() != useradminv1.DeleteOutcome_DELETE_OUTCOME_ALREADY_ABSENT {
		t.Fatal(response)
	}
	// Three attempts with only the backoff of the policy would end earlier: the library obeyed the pushback.
	compare(t, []call{refused, {"call ended", "Ok", ""}}, calls(t)[before:])
}
