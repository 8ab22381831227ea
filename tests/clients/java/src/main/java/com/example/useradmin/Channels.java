package com.example.useradmin;

import com.useradmin.v1.UserAdminGrpc;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** A connection: who the server must be, who calls, and what the library repeats by itself. */
public final class Channels {
    /** Numbers are of type Double, as in any service config that comes out of JSON. */
    private static final Map<String, ?> RETRY_POLICY = Map.of(
            "maxAttempts", 3.0,
            "initialBackoff", "0.2s",
            "maxBackoff", "5s",
            "backoffMultiplier", 2.0,
            "retryableStatusCodes", List.of("UNAVAILABLE", "RESOURCE_EXHAUSTED"));

    /**
     * Where the server has tried already, it ends these retries; where nobody has tried, it sets their delay
     * (grpc-retry-pushback-ms). The backoff is for connections that cannot be made.
     */
    private static final Map<String, ?> SERVICE_CONFIG = Map.of(
            "loadBalancingConfig",
            List.of(Map.of("round_robin", Map.of())),
            "methodConfig",
            List.of(Map.of(
                    "name", List.of(Map.of("service", UserAdminGrpc.SERVICE_NAME)),
                    "retryPolicy", RETRY_POLICY)));

    private Channels() {}

    /** Prepares a connection; it is made by the first call, and anew whenever it is lost. */
    public static ManagedChannel connect(String address, ChannelCredentials credentials) {
        return Grpc.newChannelBuilder(address, credentials)
                .defaultServiceConfig(SERVICE_CONFIG)
                // Without it, a server that vanishes without a word is noticed only after many minutes.
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(10, TimeUnit.SECONDS)
                .build();
    }

    /** Trusts the authority in the file; the caller shows nothing. */
    public static ChannelCredentials tls(File ca) throws IOException {
        return TlsChannelCredentials.newBuilder().trustManager(ca).build();
    }

    /**
     * The caller shows a certificate (mutual TLS), whose key is PKCS#8. It is that of the connection: connect anew when
     * it has been renewed.
     */
    public static ChannelCredentials withCertificate(File ca, File certificate, File key) throws IOException {
        return TlsChannelCredentials.newBuilder()
                .trustManager(ca)
                .keyManager(certificate, key)
                .build();
    }

    /** The caller shows a token with each call. */
    public static ChannelCredentials withToken(File ca, File token) throws IOException {
        return CompositeChannelCredentials.create(tls(ca), new TokenFile(token.toPath()));
    }
}
