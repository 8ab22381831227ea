package com.example.useradmin;

import com.useradmin.v1.DeleteBatchNodeUserRequest;
import com.useradmin.v1.DeleteHmcUserRequest;
import com.useradmin.v1.DeleteOutcome;
import com.useradmin.v1.UserAdminGrpc;
import com.useradmin.v1.UserAdminGrpc.UserAdminBlockingStub;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Deletes one user by the gRPC service useradmin:
 *
 * <pre>
 * DeleteUser --ca ca.pem --cert client.pem --key client.key batch POOL NODE USER
 * DeleteUser --ca ca.pem --token token hmc USER
 * DeleteUser --plaintext --validate-only hmc USER
 * </pre>
 */
public final class DeleteUser {
    private static final String USAGE = "[--address HOST:PORT] [--plaintext | [--ca FILE] [--cert FILE --key FILE]"
            + " [--token FILE]] [--timeout SECONDS] [--allow-missing] [--validate-only]"
            + " batch POOL NODE USER | hmc USER";

    private static final Set<String> FLAGS = Set.of("plaintext", "allow-missing", "validate-only");

    private final Map<String, String> options = new HashMap<>();
    private final List<String> user = new ArrayList<>();
    private final Set<String> flags = new HashSet<>();

    public static void main(String[] arguments) throws IOException {
        System.exit(run(arguments, System.out, System.err));
    }

    static int run(String[] arguments, PrintStream out, PrintStream err) throws IOException {
        DeleteUser program = new DeleteUser();
        if (!program.parse(List.of(arguments))) {
            err.println(USAGE);
            return 1;
        }
        ManagedChannel channel = Channels.connect(program.option("address", "localhost:50051"), program.credentials());
        try {
            out.println(program.delete(channel));
            return 0;
        } catch (StatusRuntimeException e) {
            err.println(new Failure(e));
            return 1;
        } finally {
            channel.shutdownNow();
        }
    }

    private DeleteOutcome delete(ManagedChannel channel) {
        // The server applies a deadline of 30 seconds if there is none, and of 60 at most. The deadline starts here, so
        // each call needs a separate stub.
        Duration timeout = Duration.ofSeconds(Long.parseLong(option("timeout", "30")));
        UserAdminBlockingStub stub = UserAdminGrpc.newBlockingStub(channel).withDeadlineAfter(timeout);
        if (user.get(0).equals("hmc")) {
            DeleteHmcUserRequest request = DeleteHmcUserRequest.newBuilder()
                    .setUserName(user.get(1))
                    .setAllowMissing(flags.contains("allow-missing"))
                    .setValidateOnly(flags.contains("validate-only"))
                    .build();
            return stub.deleteHmcUser(request).getOutcome();
        }
        DeleteBatchNodeUserRequest request = DeleteBatchNodeUserRequest.newBuilder()
                .setPoolId(user.get(1))
                .setNodeId(user.get(2))
                .setUserName(user.get(3))
                .setAllowMissing(flags.contains("allow-missing"))
                .setValidateOnly(flags.contains("validate-only"))
                .build();
        return stub.deleteBatchNodeUser(request).getOutcome();
    }

    private ChannelCredentials credentials() throws IOException {
        if (flags.contains("plaintext")) {
            return InsecureChannelCredentials.create();
        }
        File ca = new File(option("ca", "ca.pem"));
        if (options.containsKey("cert")) {
            return Channels.withCertificate(ca, new File(options.get("cert")), new File(option("key", "client.key")));
        }
        if (options.containsKey("token")) {
            return Channels.withToken(ca, new File(options.get("token")));
        }
        return Channels.tls(ca);
    }

    private String option(String name, String otherwise) {
        return options.getOrDefault(name, otherwise);
    }

    private boolean parse(List<String> arguments) {
        for (int i = 0; i < arguments.size(); i++) {
            String argument = arguments.get(i);
            String name = argument.startsWith("--") ? argument.substring(2) : "";
            if (FLAGS.contains(name)) {
                flags.add(name);
            } else if (!name.isEmpty() && i + 1 < arguments.size()) {
                options.put(name, arguments.get(++i));
            } else {
                user.add(argument);
            }
        }
        if (flags.contains("plaintext") && (options.containsKey("cert") || options.containsKey("token"))) {
            return false;
        }
        String system = user.isEmpty() ? "" : user.get(0);
        return system.equals("batch") && user.size() == 4 || system.equals("hmc") && user.size() == 2;
    }
}
