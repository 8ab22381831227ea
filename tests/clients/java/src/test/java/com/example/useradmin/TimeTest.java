package com.example.useradmin;

import static com.example.useradmin.Sandbox.batchUser;
import static com.example.useradmin.Sandbox.callsUpTo;
import static com.example.useradmin.Sandbox.failure;
import static com.example.useradmin.Sandbox.stub;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

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
import java.util.UUID;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Deadlines, and what the library repeats by itself. */
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
        // The server answers 100 ms before the deadline. On a machine too busy to take that answer in time the library
        // ends the call, without details; on one that is busier still, the server sends nothing. One of a few calls
        // must do better.
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
    void whatTheServerHasTriedAlreadyTheLibraryDoesNotRepeat() throws Exception {
        channel = Sandbox.connect(Sandbox.certificate());
        String id = UUID.randomUUID().toString();
        Failure failure = failure(() ->
                stub(channel).deleteBatchNodeUser(batchUser("answer-ServerBusy").setClientRequestId(id).build()));
        assertEquals(Code.UNAVAILABLE, failure.code(), "a code that the retry policy lists");
        assertEquals(
                Optional.of("3"),
                failure.detail(ErrorInfo.class).map(info -> info.getMetadataOrThrow("attempts")),
                "DELETEs of the server");

        // A call that comes later; by then the log would tell of a repetition too.
        String later = UUID.randomUUID().toString();
        stub(channel)
                .deleteBatchNodeUser(
                        batchUser("carol").setValidateOnly(true).setClientRequestId(later).build());
        List<String> own = callsUpTo(later).stream()
                .filter(line -> line.clientRequestId().equals(id))
                .map(Line::reason)
                .toList();
        assertEquals(List.of("ERROR_REASON_UPSTREAM_UNAVAILABLE"), own);
    }

    @Test
    void whatNobodyHasTriedYetTheLibraryRepeatsWhenItIsToldTo() throws Exception {
        channel = Sandbox.connect(Sandbox.token());
        // The token has 60 deletions a minute, and gets a new one each second. The client never sees that they are
        // used up.
        for (int count = 0; count < 200; count++) {
            String id = UUID.randomUUID().toString();
            DeleteOutcome outcome = stub(channel)
                    .deleteBatchNodeUser(batchUser("nobody").setAllowMissing(true).setClientRequestId(id).build())
                    .getOutcome();
            assertEquals(DeleteOutcome.DELETE_OUTCOME_ALREADY_ABSENT, outcome);

            List<String> reasons = callsUpTo(id).stream()
                    .filter(line -> line.caller().equals(Sandbox.TOKEN))
                    .map(Line::reason)
                    .toList();
            int before = reasons.subList(0, reasons.size() - 1).lastIndexOf("");
            List<String> own = reasons.subList(before + 1, reasons.size());
            if (own.size() > 1) {
                assertEquals(List.of("ERROR_REASON_DELETE_QUOTA_EXCEEDED", ""), own);
                return;
            }
        }
        fail("the deletions were never used up");
    }
}
