# Both images can be replaced by mirrored or hardened ones. The second needs glibc, as new as that of the first, and
# libgcc; neither a shell nor a package manager.
ARG BUILD_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12

FROM ${BUILD_IMAGE} AS source
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY crates crates
COPY proto proto
COPY src src
RUN mkdir -p /out/state

FROM source AS build
RUN cargo build --release --locked --no-default-features --bin useradmin && cp target/release/useradmin /out/

FROM source AS build-sandbox
RUN cargo build --release --locked --bin useradmin && cp target/release/useradmin /out/

# Shell completions and man pages are not part of the image: `useradmin completions` and `useradmin man` generate them.
FROM ${RUNTIME_IMAGE} AS runtime
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# The place for the audit log: `file = "/var/lib/useradmin/audit.jsonl"`, on a volume. Nothing is written elsewhere.
COPY --from=source --chown=10001:10001 /out/state /var/lib/useradmin
USER 10001:10001
WORKDIR /var/lib/useradmin
EXPOSE 50051
STOPSIGNAL SIGTERM
# Another `listen`, or TLS, is told to it by USERADMIN_HEALTH_ADDR, _CA_FILE and _SERVER_NAME.
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/useradmin", "health"]
ENTRYPOINT ["/usr/local/bin/useradmin"]
ARG RUNTIME_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="useradmin" \
    org.opencontainers.image.description="A gRPC facade that deletes users of Azure Batch nodes and of IBM Z HMCs" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${RUNTIME_IMAGE}"

# `--target sandbox`: to try the service out, with simulated upstreams and without a configuration.
FROM runtime AS sandbox
COPY --from=build-sandbox /out/useradmin /usr/local/bin/useradmin
CMD ["serve", "--sandbox", "--listen", "0.0.0.0:50051"]

# The default: for production, without the code of the sandbox.
FROM runtime
COPY --from=build /out/useradmin /usr/local/bin/useradmin
CMD ["serve", "--config", "/etc/useradmin/useradmin.toml"]
