package com.example.useradmin;

import static com.example.useradmin.Sandbox.batchUser;
import static com.example.useradmin.Sandbox.failure;
import static com.example.useradmin.Sandbox.hmcUser;
import static com.example.useradmin.Sandbox.stub;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Duration;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.QuotaFailure;
import com.google.rpc.RequestInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import com.useradmin.v1.BatchError;
import com.useradmin.v1.BatchErrorDetail;
import com.useradmin.v1.ErrorMessage;
import com.useradmin.v1.ErrorReason;
import com.useradmin.v1.HmcError;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Every kind of error detail, each on a call that fails with it. */
class DetailsTest {
    private static final String CLIENT_REQUEST_ID = "9c4d50ee-2d56-4cd3-8152-34347dc9f2b1";

    private static ManagedChannel channel;

    @BeforeAll
    static void open() throws Exception {
        channel = Sandbox.connect(Sandbox.certificate());
    }

    @AfterAll
    static void close() {
        channel.shutdownNow();
    }

    /** ErrorInfo, RequestInfo, ResourceInfo and BatchError. */
    @Test
    void thereIsNoSuchUser() {
        Failure failure = failure(() -> stub(channel)
                .deleteBatchNodeUser(batchUser("nobody").setClientRequestId(CLIENT_REQUEST_ID).build()));
        assertEquals(Code.NOT_FOUND, failure.code());
        assertEquals(ErrorReason.ERROR_REASON_USER_NOT_FOUND, failure.reason());

        BatchError batch = failure.detail(BatchError.class).orElseThrow();
        assertFalse(batch.getRequestId().isEmpty());
        assertEquals(noSuchUser(batch.getRequestId()), batch);
        assertEquals(Optional.of(info(batch.getRequestId())), failure.detail(ErrorInfo.class));

        String requestId = failure.requestId().orElseThrow();
        assertEquals(
                Optional.of(RequestInfo.newBuilder().setRequestId(requestId).build()),
                failure.detail(RequestInfo.class));

        ResourceInfo resource = failure.detail(ResourceInfo.class).orElseThrow();
        assertEquals("useradmin/BatchNodeUser", resource.getResourceType());
        assertEquals("batchAccounts/sandbox/pools/pool-1/nodes/node-idle/users/nobody", resource.getResourceName());
        assertEquals("the user does not exist, or is not visible to this service", resource.getDescription());
    }

    private static BatchError noSuchUser(String upstreamRequestId) {
        return BatchError.newBuilder()
                .setCode("NodeUserNotFound")
                .setMessage(ErrorMessage.newBuilder()
                        .setLang("en-US")
                        .setValue("The specified node user does not exist."))
                .setHttpStatus(404)
                .setRequestId(upstreamRequestId)
                .setClientRequestId(CLIENT_REQUEST_ID)
                .build();
    }

    private static ErrorInfo info(String upstreamRequestId) {
        return ErrorInfo.newBuilder()
                .setReason("ERROR_REASON_USER_NOT_FOUND")
                .setDomain("useradmin.v1.UserAdmin")
                .putMetadata("account", "sandbox")
                .putMetadata("attempts", "1")
                .putMetadata("client_request_id", CLIENT_REQUEST_ID)
                .putMetadata("node_id", "node-idle")
                .putMetadata("outcome", "not_deleted")
                .putMetadata("pool_id", "pool-1")
                .putMetadata("upstream", "azure_batch")
                .putMetadata("upstream_code", "NodeUserNotFound")
                .putMetadata("upstream_http_status", "404")
                .putMetadata("upstream_request_id", upstreamRequestId)
                .putMetadata("user_name", "nobody")
                .build();
    }

    /** The values of BatchError. */
    @Test
    void aHeaderIsRefused() {
        Failure failure =
                failure(() -> stub(channel).deleteBatchNodeUser(batchUser("answer-InvalidHeaderValue").build()));
        assertEquals(ErrorReason.ERROR_REASON_UPSTREAM_REJECTED_REQUEST, failure.reason());
        List<BatchErrorDetail> values = failure.detail(BatchError.class).orElseThrow().getValuesList();
        assertEquals(
                List.of("HeaderName", "HeaderValue"),
                values.stream().map(BatchErrorDetail::getKey).toList());
    }

    /** BadRequest contains all invalid fields. */
    @Test
    void fieldsBreakTheirRules() {
        Failure failure = failure(() -> stub(channel)
                .deleteBatchNodeUser(batchUser("alice").setPoolId("").setNodeId("..").build()));
        assertEquals(Code.INVALID_ARGUMENT, failure.code());
        assertEquals(ErrorReason.ERROR_REASON_INVALID_REQUEST, failure.reason());
        List<BadRequest.FieldViolation> violations =
                failure.detail(BadRequest.class).orElseThrow().getFieldViolationsList();
        assertEquals(
                List.of("pool_id", "node_id"),
                violations.stream().map(BadRequest.FieldViolation::getField).toList());
        assertTrue(violations.stream().allMatch(each -> each.getDescription().startsWith("must be ")));
    }

    /** PreconditionFailure and HmcError. */
    @Test
    void aTemplateIsInUse() {
        Failure failure = failure(() -> stub(channel).deleteHmcUser(hmcUser("template-in-use")));
        assertEquals(Code.FAILED_PRECONDITION, failure.code());
        assertEquals(ErrorReason.ERROR_REASON_TEMPLATE_USER_IN_USE, failure.reason());

        String userId = failure.detail(ErrorInfo.class).orElseThrow().getMetadataOrThrow("user_id");
        PreconditionFailure expected = PreconditionFailure.newBuilder()
                .addViolations(PreconditionFailure.Violation.newBuilder()
                        .setType("TEMPLATE_REFERENCES")
                        .setSubject("hmcs/sandbox/users/" + userId)
                        .setDescription("remove the users and user patterns that refer to the template first"))
                .build();
        assertEquals(Optional.of(expected), failure.detail(PreconditionFailure.class));

        HmcError hmc = failure.detail(HmcError.class).orElseThrow();
        assertEquals(409, hmc.getHttpStatus());
        assertEquals(317, hmc.getReason());
        assertFalse(hmc.getMessage().isEmpty());
        assertEquals(Optional.empty(), failure.detail(BatchError.class), "the answer is the HMC's");
    }

    /** QuotaFailure and RetryInfo. */
    @Test
    void azureBatchGetsTooManyRequests() {
        // Too little time for the `Retry-After` of Azure Batch, so the server passes it on to the caller.
        Failure failure = failure(() -> stub(channel, java.time.Duration.ofMillis(1900))
                .deleteBatchNodeUser(batchUser("answer-TooManyRequests").build()));
        assertEquals(Code.RESOURCE_EXHAUSTED, failure.code());
        assertEquals(ErrorReason.ERROR_REASON_UPSTREAM_THROTTLED, failure.reason());
        List<QuotaFailure.Violation> violations =
                failure.detail(QuotaFailure.class).orElseThrow().getViolationsList();
        assertEquals(
                List.of("batchAccounts/sandbox"),
                violations.stream().map(QuotaFailure.Violation::getSubject).toList());
        Duration delay = failure.detail(RetryInfo.class).orElseThrow().getRetryDelay();
        assertEquals(Duration.newBuilder().setSeconds(2).build(), delay);
    }
}
