package com.example.useradmin;

import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.fail;

import com.useradmin.v1.DeleteBatchNodeUserRequest;
import com.useradmin.v1.DeleteHmcUserRequest;
import com.useradmin.v1.UserAdminGrpc;
import com.useradmin.v1.UserAdminGrpc.UserAdminBlockingStub;
import io.grpc.ChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.function.Executable;

/** Access of the tests to the sandbox and its log. */
final class Sandbox {
    private static final Pattern CALL = Pattern.compile("\"message\":\"call ended\".*\"request_id\":\"([^\"]*)\".*"
            + "\"code\":\"([^\"]*)\",\"reason\":\"([^\"]*)\",\"outcome\":\"([^\"]*)\"");

    private static final Metadata.Key<String> REQUEST_ID =
            Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

    /** Log line of a completed call. */
    record Line(String requestId, String code, String reason, String outcome) {}

    private Sandbox() {}

    static File file(String name) {
        return new File(setting("USERADMIN_CREDENTIALS"), name);
    }

    static ChannelCredentials certificate() throws IOException {
        return Channels.withCertificate(file("ca.pem"), file("client.pem"), file("client.key"));
    }

    static ChannelCredentials token() throws IOException {
        return Channels.withToken(file("ca.pem"), file("token"));
    }

    static ManagedChannel connect(ChannelCredentials credentials) {
        return Channels.connect(address(), credentials);
    }

    static String address() {
        return setting("USERADMIN_ADDRESS");
    }

    /** Returns the address of another sandbox, without TLS and credentials. */
    static String plaintextAddress() {
        return setting("USERADMIN_PLAINTEXT_ADDRESS");
    }

    /** Creates a stub for one call. The deadline of a stub starts when the stub is created. */
    static UserAdminBlockingStub stub(ManagedChannel channel) {
        return stub(channel, Duration.ofSeconds(10));
    }

    static UserAdminBlockingStub stub(ManagedChannel channel, Duration timeout) {
        return UserAdminGrpc.newBlockingStub(channel).withDeadlineAfter(timeout);
    }

    static DeleteBatchNodeUserRequest.Builder batchUser(String name) {
        return DeleteBatchNodeUserRequest.newBuilder().setPoolId("pool-1").setNodeId("node-idle").setUserName(name);
    }

    static DeleteHmcUserRequest hmcUser(String name) {
        return DeleteHmcUserRequest.newBuilder().setUserName(name).build();
    }

    static Failure failure(Executable call) {
        return new Failure(assertThrows(StatusRuntimeException.class, call));
    }

    /**
     * Returns the log lines of all calls so far. The server logs calls in the order of their responses, but with a
     * delay. Therefore this method makes a call that deletes nothing, waits for its line, and returns the lines before
     * it.
     */
    static List<Line> calls() throws Exception {
        String last = validate();
        for (int tries = 0; tries < 1000; tries++) {
            List<Line> calls = new ArrayList<>();
            for (Line line : logged()) {
                if (line.requestId().equals(last)) {
                    return calls;
                }
                if (!line.outcome().equals("validated")) {
                    calls.add(line);
                }
            }
            TimeUnit.MILLISECONDS.sleep(10);
        }
        return fail("no call " + last + " in the log");
    }

    /** Makes a call that deletes nothing, and returns its ID. */
    private static String validate() throws IOException {
        ManagedChannel channel = connect(certificate());
        AtomicReference<Metadata> trailers = new AtomicReference<>();
        stub(channel)
                .withInterceptors(MetadataUtils.newCaptureMetadataInterceptor(new AtomicReference<>(), trailers))
                .deleteHmcUser(hmcUser("carol").toBuilder().setValidateOnly(true).build());
        channel.shutdownNow();
        return trailers.get().get(REQUEST_ID);
    }

    private static List<Line> logged() throws IOException {
        List<Line> lines = new ArrayList<>();
        for (String text : Files.readAllLines(Path.of(setting("USERADMIN_LOG")))) {
            Matcher found = CALL.matcher(text);
            if (found.find()) {
                lines.add(new Line(found.group(1), found.group(2), found.group(3), found.group(4)));
            }
        }
        return lines;
    }

    private static String setting(String name) {
        String value = System.getenv(name);
        assertNotNull(value, name + " is not set; run tests/clients/run.sh java");
        return value;
    }
}
