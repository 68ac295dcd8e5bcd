#   docker build -t pintail .                         compiles everything, DuckDB included: about 40 minutes on two cores; needs BuildKit
#
# Or with a binary that is there already (glibc 2.36 or older, as on Debian 12), with any builder:
#
#   install -D -s "${CARGO_TARGET_DIR:-target}/release/pintail" dist/out/pintail
#   docker build -t pintail --target prebuilt .
#
# tests/container/run.py builds the image and tries what is promised of it.

# What both kinds have. The binary needs glibc, libgcc and libstdc++.
FROM debian:bookworm-slim AS runtime
# A named volume takes over this directory's owner. A bind mount has its own: `chown 10001:10001` it on the host.
RUN install -d -o 10001 -g 10001 /checkpoints
USER 10001:10001
# The default `pipeline.out_path` is relative: `/checkpoints`, unless a configuration names another.
WORKDIR /
VOLUME /checkpoints
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["/usr/local/bin/pintail", "health"]
ENTRYPOINT ["/usr/local/bin/pintail"]

# Before `source`: a builder without BuildKit makes every stage up to its target, and must not come to the one that compiles.
FROM runtime AS prebuilt
ARG BINARY=dist/out/pintail
COPY ${BINARY} /usr/local/bin/pintail

FROM rust:1.95-bookworm AS source
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --release --locked --bin pintail \
    && install -D -m 0755 -s /target/release/pintail /out/pintail

FROM runtime
COPY --from=source /out/pintail /usr/local/bin/pintail
