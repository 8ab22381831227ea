package com.example.useradmin;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.Durations;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.useradmin.v1.ErrorReason;
import com.useradmin.v1.UserAdminGrpc;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.Optional;

/** An error of a call, with its details by type. */
public final class Failure {
    private static final Metadata.Key<String> REQUEST_ID =
            Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

    private final StatusRuntimeException error;
    private final List<Any> details;

    public Failure(StatusRuntimeException error) {
        this.error = error;
        this.details = StatusProto.fromThrowable(error).getDetailsList();
    }

    public Status.Code code() {
        return error.getStatus().getCode();
    }

    /** ID of the call, assigned by the server. Operators need it to find the call in their logs. */
    public Optional<String> requestId() {
        return Optional.ofNullable(error.getTrailers()).map(trailers -> trailers.get(REQUEST_ID));
    }

    /** The detail of this type, if the error has it; each is there at most once. */
    public <T extends Message> Optional<T> detail(Class<T> type) {
        for (Any any : details) {
            if (any.is(type)) {
                return Optional.of(unpack(any, type));
            }
        }
        return Optional.empty();
    }

    /** UNSPECIFIED if not set by this service, UNRECOGNIZED if newer than this program; in both cases, use the code. */
    public ErrorReason reason() {
        return detail(ErrorInfo.class)
                .filter(info -> info.getDomain().equals(UserAdminGrpc.SERVICE_NAME))
                .map(info -> reason(info.getReason()))
                .orElse(ErrorReason.ERROR_REASON_UNSPECIFIED);
    }

    /**
     * Returns whether the user may have been deleted, that is, whether the outcome is unknown. An error without
     * ErrorInfo comes from the library, which does not know the outcome.
     */
    public boolean mayHaveDeleted() {
        return detail(ErrorInfo.class)
                .map(info -> info.getMetadataOrDefault("outcome", "").equals("unknown"))
                .orElse(true);
    }

    public String nextStep() {
        String repeat = mayHaveDeleted() ? "repeat it with --allow-missing" : "repeat it";
        Optional<RetryInfo> retry = detail(RetryInfo.class);
        if (retry.isPresent()) {
            return repeat + " after " + Durations.toString(retry.get().getRetryDelay());
        }
        if (detail(ErrorInfo.class).isEmpty()) {
            return repeat + " when the server can be reached";
        }
        return "do not repeat it before the cause is removed";
    }

    @Override
    public String toString() {
        return "%s: %s (%s, request %s); %s"
                .formatted(code(), error.getStatus().getDescription(), reason(), requestId().orElse(""), nextStep());
    }

    private static <T extends Message> T unpack(Any any, Class<T> type) {
        try {
            return any.unpack(type);
        } catch (InvalidProtocolBufferException e) {
            throw new IllegalStateException("a detail that cannot be read: " + any.getTypeUrl(), e);
        }
    }

    private static ErrorReason reason(String name) {
        try {
            return ErrorReason.valueOf(name);
        } catch (IllegalArgumentException e) {
            return ErrorReason.UNRECOGNIZED;
        }
    }
}
