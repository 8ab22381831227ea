# Both images can be replaced by mirrored or hardened ones. The second needs glibc of the first one's age, and
# neither a shell nor a package manager.
ARG BUILD_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY src src
RUN cargo build --release --locked --bin useradmin && mkdir -p /out/state

FROM ${RUNTIME_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/useradmin /usr/local/bin/useradmin
# The place for the audit log: `file = "/var/lib/useradmin/audit.jsonl"`, on a volume.
COPY --from=build --chown=10001:10001 /out/state /var/lib/useradmin
USER 10001:10001
WORKDIR /var/lib/useradmin
EXPOSE 50051
STOPSIGNAL SIGTERM
# Another `listen` needs another address here.
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/useradmin", "health", "--addr", "127.0.0.1:50051"]
ENTRYPOINT ["/usr/local/bin/useradmin"]
CMD ["serve", "--config", "/etc/useradmin/useradmin.toml"]
