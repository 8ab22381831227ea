package main

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

// failures are calls that together produce every kind of detail. want contains all details of the call except for
// ErrorInfo, of which only a part of the metadata is given, and RequestInfo, which differs for each call.
var failures = []struct {
	name     string
	timeout  time.Duration
	request  proto.Message
	metadata map[string]string
	want     Failure
}{
	{
		name:     "BadRequest has all violations at once",
		timeout:  5 * time.Second,
		request:  &useradminv1.DeleteBatchNodeUserRequest{NodeId: "..", UserName: "alice"},
		metadata: map[string]string{"upstream": "azure_batch", "outcome": "not_sent", "attempts": "0"},
		want: Failure{
			Code:   codes.InvalidArgument,
			Reason: useradminv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
			BadRequest: &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: "pool_id"}, {Field: "node_id"},
			}},
		},
	},
	{
		name:    "PreconditionFailure and BatchError",
		timeout: 5 * time.Second,
		request: onNode("node-rebooting", "alice"),
		metadata: map[string]string{
			"upstream": "azure_batch", "outcome": "not_deleted", "attempts": "1",
			"upstream_http_status": "409", "upstream_code": "NodeBeingRebooted",
			"account": "sandbox", "pool_id": "pool-1", "node_id": "node-rebooting", "user_name": "alice",
			"client_request_id": correlation,
		},
		want: Failure{
			Code:   codes.FailedPrecondition,
			Reason: useradminv1.ErrorReason_ERROR_REASON_NODE_NOT_READY,
			PreconditionFailure: &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{
				Type:    "NODE_STATE",
				Subject: "batchAccounts/sandbox/pools/pool-1/nodes/node-rebooting/users/alice",
			}}},
			BatchError: batchError("NodeBeingRebooted", 409, "The specified node is being rebooted."),
		},
	},
	{
		name:     "ResourceInfo",
		timeout:  5 * time.Second,
		request:  onNode("node-idle", "nobody"),
		metadata: map[string]string{"outcome": "not_deleted", "upstream_code": "NodeUserNotFound"},
		want: Failure{
			Code:   codes.NotFound,
			Reason: useradminv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND,
			ResourceInfo: &errdetails.ResourceInfo{
				ResourceType: "useradmin/BatchNodeUser",
				ResourceName: "batchAccounts/sandbox/pools/pool-1/nodes/node-idle/users/nobody",
			},
			BatchError: batchError("NodeUserNotFound", 404, "The specified node user does not exist."),
		},
	},
	{
		name: "QuotaFailure and RetryInfo",
		// Less than the Retry-After of the upstream, so the server passes it on immediately.
		timeout:  1500 * time.Millisecond,
		request:  onNode("node-idle", "answer-TooManyRequests"),
		metadata: map[string]string{"outcome": "not_deleted", "upstream_http_status": "429"},
		want: Failure{
			Code:   codes.ResourceExhausted,
			Reason: useradminv1.ErrorReason_ERROR_REASON_UPSTREAM_THROTTLED,
			QuotaFailure: &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{
				{Subject: "batchAccounts/sandbox"},
			}},
			RetryInfo: &errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Second)},
			BatchError: batchError("TooManyRequests", 429,
				"Request failed as server encountered too many requests. Please try again."),
		},
	},
	{
		name:     "BatchError with values",
		timeout:  5 * time.Second,
		request:  onNode("node-idle", "answer-InvalidHeaderValue"),
		metadata: map[string]string{"outcome": "not_deleted", "upstream_http_status": "400"},
		want: Failure{
			Code:   codes.InvalidArgument,
			Reason: useradminv1.ErrorReason_ERROR_REASON_UPSTREAM_REJECTED_REQUEST,
			BadRequest: &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: "client_request_id"},
			}},
			BatchError: batchError("InvalidHeaderValue", 400,
				"The value for one of the HTTP headers is not in the correct format.",
				&useradminv1.BatchErrorDetail{Key: "HeaderName", Value: "client-request-id"},
				&useradminv1.BatchErrorDetail{Key: "HeaderValue", Value: "{not-a-guid}"}),
		},
	},
	{
		name:     "HmcError",
		timeout:  5 * time.Second,
		request:  onHmc("template-in-use"),
		metadata: map[string]string{"upstream": "ibm_hmc", "hmc": "sandbox", "upstream_code": "317"},
		want: Failure{
			Code:   codes.FailedPrecondition,
			Reason: useradminv1.ErrorReason_ERROR_REASON_TEMPLATE_USER_IN_USE,
			PreconditionFailure: &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{
				Type:    "TEMPLATE_REFERENCES",
				Subject: "hmcs/sandbox/users/00000317-4a7a-11e4-91ee-1c6f65065a91",
			}}},
			HmcError: &useradminv1.HmcError{
				HttpStatus: 409,
				Reason:     317,
				Message: "The object cannot be deleted at this time. " +
					"One or more users or User Patterns refer to this template user.",
			},
		},
	},
}

func batchError(code string, status uint32, text string, values ...*useradminv1.BatchErrorDetail) *useradminv1.BatchError {
	return &useradminv1.BatchError{
		Code:            code,
		Message:         &useradminv1.ErrorMessage{Lang: "en-US", Value: text},
		Values:          values,
		HttpStatus:      status,
		ClientRequestId: correlation,
	}
}

func TestEveryDetail(t *testing.T) {
	client := useradminv1.NewUserAdminClient(byCertificate(t))
	for _, test := range failures {
		t.Run(test.name, func(t *testing.T) {
			var trailer metadata.MD
			got := failureOf(send(within(t, test.timeout), client, test.request, grpc.Trailer(&trailer)))
			checkInfo(t, got, test.metadata, trailer)
			if diff := cmp.Diff(test.want, got, unpredictable()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func send(ctx context.Context, client useradminv1.UserAdminClient, request proto.Message, option grpc.CallOption) error {
	if onNode, ok := request.(*useradminv1.DeleteBatchNodeUserRequest); ok {
		_, err := client.DeleteBatchNodeUser(ctx, onNode, option)
		return err
	}
	_, err := client.DeleteHmcUser(ctx, request.(*useradminv1.DeleteHmcUserRequest), option)
	return err
}

// checkInfo checks the details that every error of the service has.
func checkInfo(t *testing.T, got Failure, want map[string]string, trailer metadata.MD) {
	t.Helper()
	if got.ErrorInfo.GetDomain() != "useradmin.v1.UserAdmin" || got.ErrorInfo.GetReason() != got.Reason.String() {
		t.Errorf("ErrorInfo: %v", got.ErrorInfo)
	}
	for key, value := range want {
		if got.ErrorInfo.GetMetadata()[key] != value {
			t.Errorf("metadata %s is %q, not %q", key, got.ErrorInfo.GetMetadata()[key], value)
		}
	}
	if id := trailer.Get("x-request-id"); len(id) != 1 || id[0] == "" || id[0] != got.RequestInfo.GetRequestId() {
		t.Errorf("x-request-id is %q, and RequestInfo %v", id, got.RequestInfo)
	}
	if got.BatchError != nil && got.BatchError.GetRequestId() != got.ErrorInfo.GetMetadata()["upstream_request_id"] {
		t.Errorf("two IDs of the upstream's: %v, %v", got.BatchError, got.ErrorInfo)
	}
}

// unpredictable ignores the details that checkInfo checks, an ID of the upstream, and human-readable texts.
func unpredictable() cmp.Options {
	return cmp.Options{
		protocmp.Transform(),
		cmpopts.IgnoreFields(Failure{}, "Message", "ErrorInfo", "RequestInfo"),
		protocmp.IgnoreFields(&errdetails.BadRequest_FieldViolation{}, "description"),
		protocmp.IgnoreFields(&errdetails.PreconditionFailure_Violation{}, "description"),
		protocmp.IgnoreFields(&errdetails.QuotaFailure_Violation{}, "description"),
		protocmp.IgnoreFields(&errdetails.ResourceInfo{}, "description"),
		protocmp.IgnoreFields(&useradminv1.BatchError{}, "request_id"),
	}
}
