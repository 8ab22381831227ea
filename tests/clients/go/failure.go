package main

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

// Failure is an error of a call with all its details. Details that the error does not have are nil.
type Failure struct {
	Code    codes.Code
	Message string

	// Reason is UNSPECIFIED if it was not set by this service, or is newer than this program; then use the code.
	Reason useradminv1.ErrorReason

	ErrorInfo           *errdetails.ErrorInfo
	RequestInfo         *errdetails.RequestInfo
	BadRequest          *errdetails.BadRequest
	PreconditionFailure *errdetails.PreconditionFailure
	ResourceInfo        *errdetails.ResourceInfo
	QuotaFailure        *errdetails.QuotaFailure
	RetryInfo           *errdetails.RetryInfo
	BatchError          *useradminv1.BatchError
	HmcError            *useradminv1.HmcError

	// Unknown contains details of types that only a newer server knows.
	Unknown []any
}

func failureOf(err error) Failure {
	st := status.Convert(err)
	failure := Failure{Code: st.Code(), Message: st.Message()}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.ErrorInfo = detail
			failure.Reason = reasonOf(detail)
		case *errdetails.RequestInfo:
			failure.RequestInfo = detail
		case *errdetails.BadRequest:
			failure.BadRequest = detail
		case *errdetails.PreconditionFailure:
			failure.PreconditionFailure = detail
		case *errdetails.ResourceInfo:
			failure.ResourceInfo = detail
		case *errdetails.QuotaFailure:
			failure.QuotaFailure = detail
		case *errdetails.RetryInfo:
			failure.RetryInfo = detail
		case *useradminv1.BatchError:
			failure.BatchError = detail
		case *useradminv1.HmcError:
			failure.HmcError = detail
		default:
			failure.Unknown = append(failure.Unknown, detail)
		}
	}
	return failure
}

func reasonOf(info *errdetails.ErrorInfo) useradminv1.ErrorReason {
	if info.GetDomain() != "useradmin.v1.UserAdmin" {
		return useradminv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	}
	// A reason that is not in the map yields 0, which is UNSPECIFIED.
	return useradminv1.ErrorReason(useradminv1.ErrorReason_value[info.GetReason()])
}

// MayHaveDeleted reports whether the user may have been deleted, that is, whether the outcome is unknown. An error
// without ErrorInfo comes from the library, which does not know the outcome.
func (f Failure) MayHaveDeleted() bool {
	return f.ErrorInfo == nil || f.ErrorInfo.GetMetadata()["outcome"] == "unknown"
}

// NextStep returns advice for the user of the program.
func (f Failure) NextStep() string {
	repeat := "repeat it"
	if f.MayHaveDeleted() {
		repeat = "repeat it with -allow-missing"
	}
	switch {
	case f.RetryInfo != nil:
		return fmt.Sprintf("%s after %v", repeat, f.RetryInfo.GetRetryDelay().AsDuration())
	case f.ErrorInfo == nil:
		return "this is not the service's answer; " + repeat + " when the cause is removed"
	default:
		return "do not repeat it before the cause is removed"
	}
}

func (f Failure) Error() string {
	text := fmt.Sprintf("%v: %s", f.Code, f.Message)
	if f.ErrorInfo != nil {
		text += fmt.Sprintf(" (%s, request %s)", f.ErrorInfo.GetReason(), f.RequestInfo.GetRequestId())
	}
	return text + "; " + f.NextStep()
}
