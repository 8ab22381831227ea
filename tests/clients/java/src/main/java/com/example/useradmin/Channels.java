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

/** Connections: the identity of the server, the credentials of the caller, and the retries of the library. */
public final class Channels {
    /** Numbers have the type Double, as in a service config that was parsed from JSON. */
    private static final Map<String, ?> RETRY_POLICY = Map.of(
            "maxAttempts", 3.0,
            "initialBackoff", "0.2s",
            "maxBackoff", "5s",
            "backoffMultiplier", 2.0,
            "retryableStatusCodes", List.of("UNAVAILABLE", "RESOURCE_EXHAUSTED"));

    /**
     * The trailer grpc-retry-pushback-ms controls these retries: it contains the delay if the server refused the
     * call before the first DELETE, for the reasons in docs/clients.md. Otherwise it is -1, which stops them. The backoff
     * applies if the connection could not be established or was lost.
     */
    private static final Map<String, ?> SERVICE_CONFIG = Map.of(
            "loadBalancingConfig",
            List.of(Map.of("round_robin", Map.of())),
            "methodConfig",
            List.of(Map.of(
                    "name", List.of(Map.of("service", UserAdminGrpc.SERVICE_NAME)),
                    "retryPolicy", RETRY_POLICY)));

    private Channels() {}

    /** Creates a channel, which connects at the first call, and again whenever the connection is lost. */
    public static ManagedChannel connect(String address, ChannelCredentials credentials) {
        return Grpc.newChannelBuilder(address, credentials)
                .defaultServiceConfig(SERVICE_CONFIG)
                // Without keepalive, an unreachable server is detected only after many minutes.
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(10, TimeUnit.SECONDS)
                .build();
    }

    /** Trusts the authority in the file. The caller sends no credentials. */
    public static ChannelCredentials tls(File ca) throws IOException {
        return TlsChannelCredentials.newBuilder().trustManager(ca).build();
    }

    /**
     * The caller presents a certificate (mutual TLS) with a key in PKCS#8. The certificate belongs to the connection:
     * connect again when it has been renewed.
     */
    public static ChannelCredentials withCertificate(File ca, File certificate, File key) throws IOException {
        return TlsChannelCredentials.newBuilder()
                .trustManager(ca)
                .keyManager(certificate, key)
                .build();
    }

    /** The caller sends a token with each call. */
    public static ChannelCredentials withToken(File ca, File token) throws IOException {
        return CompositeChannelCredentials.create(tls(ca), new TokenFile(token.toPath()));
    }
}
