package com.example.useradmin;

import static com.example.useradmin.Sandbox.batchUser;
import static com.example.useradmin.Sandbox.connect;
import static com.example.useradmin.Sandbox.failure;
import static com.example.useradmin.Sandbox.hmcUser;
import static com.example.useradmin.Sandbox.stub;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.ErrorInfo;
import com.useradmin.v1.DeleteBatchNodeUserResponse;
import com.useradmin.v1.DeleteHmcUserResponse;
import com.useradmin.v1.DeleteOutcome;
import com.useradmin.v1.ErrorReason;
import io.grpc.ChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.stub.MetadataUtils;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import javax.net.ssl.SSLException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Callers with a certificate, a token or no credentials, and the servers that the client trusts. */
class CallersTest {
    private static final Metadata.Key<String> REQUEST_ID =
            Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

    private ManagedChannel channel;

    @AfterEach
    void close() {
        channel.shutdownNow();
    }

    @Test
    void withAClientCertificateBothRpcsSucceed() throws Exception {
        deleteBoth(Sandbox.certificate(), "alice");
    }

    @Test
    void withABearerTokenBothRpcsSucceed() throws Exception {
        deleteBoth(Sandbox.token(), "bob");
    }

    private void deleteBoth(ChannelCredentials credentials, String user) {
        channel = connect(credentials);

        String id = "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0";
        AtomicReference<Metadata> trailers = new AtomicReference<>();
        DeleteBatchNodeUserResponse ofNode = stub(channel)
                .withInterceptors(MetadataUtils.newCaptureMetadataInterceptor(new AtomicReference<>(), trailers))
                .deleteBatchNodeUser(batchUser(user).setClientRequestId(id).build());
        UUID.fromString(ofNode.getRequestId());
        UUID.fromString(trailers.get().get(REQUEST_ID));
        DeleteBatchNodeUserResponse expectedOfNode = DeleteBatchNodeUserResponse.newBuilder()
                .setOutcome(DeleteOutcome.DELETE_OUTCOME_DELETED)
                .setRequestId(ofNode.getRequestId())
                .setClientRequestId(id)
                .setAttempts(1)
                .build();
        assertEquals(expectedOfNode, ofNode);

        DeleteHmcUserResponse ofHmc = stub(channel).deleteHmcUser(hmcUser(user));
        UUID.fromString(ofHmc.getUserId());
        DeleteHmcUserResponse expectedOfHmc = DeleteHmcUserResponse.newBuilder()
                .setOutcome(DeleteOutcome.DELETE_OUTCOME_DELETED)
                .setUserId(ofHmc.getUserId())
                .setUserName(user)
                .setAttempts(1)
                .build();
        assertEquals(expectedOfHmc, ofHmc);
    }

    @Test
    void callsWithoutCredentialsAreUnauthenticated() throws Exception {
        channel = connect(Channels.tls(Sandbox.file("ca.pem")));
        Failure failure = failure(() -> stub(channel).deleteHmcUser(hmcUser("carol")));
        assertEquals(Code.UNAUTHENTICATED, failure.code());
        assertEquals(ErrorReason.ERROR_REASON_CALLER_UNAUTHENTICATED, failure.reason());
        ErrorInfo info = failure.detail(ErrorInfo.class).orElseThrow();
        assertEquals("nothing_shown", info.getMetadataOrThrow("cause"));
    }

    @Test
    void aServerOfAnotherAuthorityIsNotCalled() {
        // The public authorities included in Java, which do not include that of the sandbox.
        channel = connect(TlsChannelCredentials.create());
        StatusRuntimeException error =
                assertThrows(StatusRuntimeException.class, () -> stub(channel).deleteHmcUser(hmcUser("carol")));
        assertEquals(Code.UNAVAILABLE, error.getStatus().getCode());
        assertTrue(error.getCause() instanceof SSLException, () -> "cause: " + error.getCause());

        Failure failure = new Failure(error);
        assertEquals(Optional.empty(), failure.detail(ErrorInfo.class), "no server made this error");
        assertEquals(ErrorReason.ERROR_REASON_UNSPECIFIED, failure.reason());
        assertTrue(failure.mayHaveDeleted(), "without details the outcome is unknown");
    }

    @Test
    void theHealthServiceAnswersOnTheSameConnection() throws Exception {
        channel = connect(Sandbox.certificate());
        for (String service : new String[] {"", "useradmin.v1.UserAdmin"}) {
            ServingStatus status = HealthGrpc.newBlockingStub(channel)
                    .withDeadlineAfter(10, TimeUnit.SECONDS)
                    .check(HealthCheckRequest.newBuilder().setService(service).build())
                    .getStatus();
            assertEquals(ServingStatus.SERVING, status, service);
        }
    }
}
