# One image for servers and workers; CONTAINER_MODE chooses. docs/containers.md says how it is used.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --profile dist --package runner

FROM debian:bookworm-slim
# Plugins may be cloned, and may need packages of their own: git, Python and uv. There are no plugins in it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git openssh-client python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=ghcr.io/astral-sh/uv:0.13.8 /uv /uvx /usr/local/bin/
COPY --from=build /source/target/dist/runner /usr/local/bin/runner
# A number that is the same everywhere, for the owner of volumes.
RUN groupadd --gid 10001 runner \
    && useradd --uid 10001 --gid runner --no-create-home --home-dir /app/instance --shell /usr/sbin/nologin runner \
    && install --directory --owner=runner --group=runner \
        /app /app/instance /app/environments /app/plugins /app/extra-plugins /app/git-plugins

WORKDIR /app
ENV CONTAINER_MODE=server \
    RUNNER_HOST=0.0.0.0 \
    RUNNER_PORT=8080 \
    RUNNER_INSTANCE_FOLDER=/app/instance \
    ENVIRONMENTS_FOLDER=/app/environments \
    PLUGIN_FOLDERS=/app/plugins:/app/extra-plugins:/app/git-plugins \
    GIT_PLUGINS_FOLDER=/app/git-plugins \
    METRICS_ADDRESS=127.0.0.1:9464 \
    HOME=/tmp \
    UV_CACHE_DIR=/app/instance/cache/uv
USER 10001:10001
VOLUME ["/app/instance", "/app/git-plugins"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["runner", "health"]
ENTRYPOINT ["runner"]
CMD ["container"]
