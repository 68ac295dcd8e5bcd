# syntax=docker/dockerfile:1
#
#   docker build -t pintail .                         compiles everything, DuckDB included: about 40 minutes on two cores
#
# Or with a binary that is there already (glibc 2.36 or older, as on Debian 12):
#
#   cp ~/.cache/pintail/target/release/pintail dist/
#   docker build -t pintail --build-arg BUILD=prebuilt --build-arg BINARY=dist/pintail .

# The stage that the binary comes from: `source` or `prebuilt`.
ARG BUILD=source

FROM rust:1.95-bookworm AS source
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --release --locked --bin pintail \
    && install -D -m 0755 -s /target/release/pintail /out/pintail \
    && install -d -o 10001 -g 10001 /out/checkpoints

FROM debian:bookworm-slim AS prebuilt
ARG BINARY=dist/pintail
COPY --chmod=0755 ${BINARY} /out/pintail
RUN install -d -o 10001 -g 10001 /out/checkpoints

FROM ${BUILD} AS binary

# The binary needs glibc, libgcc and libstdc++.
FROM debian:bookworm-slim
COPY --from=binary /out/pintail /usr/local/bin/pintail
# A named volume takes over this directory's owner. A bind mount has its own: `chown 10001:10001` it on the host.
COPY --from=binary --chown=10001:10001 /out/checkpoints /checkpoints
USER 10001:10001
ENV OUT_PATH=/checkpoints
VOLUME /checkpoints
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["/usr/local/bin/pintail", "health"]
ENTRYPOINT ["/usr/local/bin/pintail"]
