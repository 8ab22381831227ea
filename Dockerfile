# Both images can be replaced by mirrored or hardened ones. The second needs glibc, as new as that of the first, and
# libgcc; neither a shell nor a package manager.
ARG BUILD_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY crates crates
COPY proto proto
COPY src src
RUN cargo build --release --locked --bin useradmin && mkdir -p /out/state && cp target/release/useradmin /out/

FROM ${RUNTIME_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/useradmin /usr/local/bin/useradmin
# The place for the audit log: `file = "/var/lib/useradmin/audit.jsonl"`, on a volume. Nothing is written elsewhere.
COPY --from=build --chown=10001:10001 /out/state /var/lib/useradmin
USER 10001:10001
WORKDIR /var/lib/useradmin
EXPOSE 50051
STOPSIGNAL SIGTERM
# Another `listen`, or TLS, is told to it by USERADMIN_HEALTH_ADDR, _CA_FILE and _SERVER_NAME.
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/useradmin", "health"]
ENTRYPOINT ["/usr/local/bin/useradmin"]
CMD ["serve", "--config", "/etc/useradmin/useradmin.toml"]
# Last, so that another revision leaves the layers above as they are.
ARG RUNTIME_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="useradmin" \
    org.opencontainers.image.description="A gRPC facade that deletes users of Azure Batch nodes and of IBM Z HMCs" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
