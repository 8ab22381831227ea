package com.example.useradmin;

import static com.example.useradmin.Sandbox.batchUser;
import static com.example.useradmin.Sandbox.calls;
import static com.example.useradmin.Sandbox.failure;
import static com.example.useradmin.Sandbox.stub;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.example.useradmin.Sandbox.Line;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.useradmin.v1.DeleteOutcome;
import com.useradmin.v1.ErrorReason;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Deadlines, and the retries of the library. */
class TimeTest {
    private ManagedChannel channel;

    @AfterEach
    void close() {
        channel.shutdownNow();
    }

    @Test
    void atTheDeadlineTheServerTellsThatTheOutcomeIsUnknown() throws Exception {
        channel = Sandbox.connect(Sandbox.certificate());
        ErrorReason unknown = ErrorReason.ERROR_REASON_OUTCOME_UNKNOWN;
        // The server responds 100 ms before the deadline. On a busy machine, the library may end the call before it
        // receives that response, without details, or the server may send none. At least one of several calls must have
        // details.
        Failure failure = atTheDeadline();
        for (int tries = 1; tries < 5 && failure.reason() != unknown; tries++) {
            failure = atTheDeadline();
        }
        assertEquals(unknown, failure.reason());
        assertEquals("unknown", failure.detail(ErrorInfo.class).orElseThrow().getMetadataOrThrow("outcome"));
        assertEquals(1, failure.detail(RetryInfo.class).orElseThrow().getRetryDelay().getSeconds());
        assertTrue(failure.mayHaveDeleted());
    }

    private Failure atTheDeadline() {
        Failure failure = failure(
                () -> stub(channel, Duration.ofSeconds(1)).deleteBatchNodeUser(batchUser("answer-nothing").build()));
        assertEquals(Code.DEADLINE_EXCEEDED, failure.code());
        return failure;
    }

    @Test
    void theLibraryDoesNotRetryCallsThatTheServerHasRetried() throws Exception {
        channel = Sandbox.connect(Sandbox.certificate());
        int before = calls().size();
        Failure failure =
                failure(() -> stub(channel).deleteBatchNodeUser(batchUser("answer-ServerBusy").build()));
        assertEquals(Code.UNAVAILABLE, failure.code(), "a code that the retry policy lists");
        assertEquals(
                Optional.of("3"),
                failure.detail(ErrorInfo.class).map(info -> info.getMetadataOrThrow("attempts")),
                "DELETEs of the server");
        assertEquals(List.of("ERROR_REASON_UPSTREAM_UNAVAILABLE"), reasonsSince(before));
    }

    @Test
    void theLibraryRetriesCallsForWhichTheServerSentNothing() throws Exception {
        channel = Sandbox.connect(Sandbox.certificate());
        Duration timeout = Duration.ofSeconds(20);
        String open = "ERROR_REASON_CIRCUIT_OPEN";
        // Errors of the upstream open its circuit breaker, so no request is sent for 5 seconds.
        boolean refused = false;
        for (int count = 0; count < 100 && !refused; count++) {
            int before = calls().size();
            failure(() -> stub(channel, timeout).deleteBatchNodeUser(batchUser("answer-InternalError").build()));
            refused = calls().get(before).reason().equals(open);
        }
        // The library retried the call after the pause, and the circuit breaker opened again.
        int before = calls().size();
        DeleteOutcome outcome = stub(channel, timeout)
                .deleteBatchNodeUser(batchUser("nobody").setAllowMissing(true).build())
                .getOutcome();
        assertEquals(DeleteOutcome.DELETE_OUTCOME_ALREADY_ABSENT, outcome);
        assertEquals(List.of(open, ""), reasonsSince(before));
    }

    private static List<String> reasonsSince(int before) throws Exception {
        return calls().stream().skip(before).map(Line::reason).toList();
    }
}
