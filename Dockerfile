# The image of verser2-guest: a Guest, a Host, a gateway or a Broker, whichever command it is started with.
#
#     docker build -t verser2-guest .
#
# An app goes into an image of its own that begins with `FROM verser2-guest` (config/container/), or is mounted at
# /app. See docs/containers.md. PYTHON_IMAGE may be a mirror's, or pinned by its digest.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# A registry of one's own: docker build --build-arg PIP_INDEX_URL=… --build-arg UV_DEFAULT_INDEX=…
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/uv.txt requirements/build.txt requirements/container.txt requirements/
RUN python -m venv /opt/build && /opt/build/bin/pip install --quiet --no-cache-dir --no-deps --require-hashes -r requirements/uv.txt
# What it needs comes before its source, so that a change of the source leaves this layer as it is.
# Wheels alone: no compiler is needed here, and none is left.
RUN /opt/build/bin/uv venv --quiet --python /usr/local/bin/python /opt/verser2-guest && \
    /opt/build/bin/uv pip install --quiet --python /opt/verser2-guest/bin/python --only-binary :all: --require-hashes \
    -r requirements/container.txt
RUN /opt/build/bin/uv pip install --quiet --python /opt/build/bin/python --only-binary :all: --require-hashes \
    -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/build/bin/uv build --quiet --wheel --no-build-isolation --python /opt/build/bin/python --out-dir /dist && \
    /opt/build/bin/uv pip install --quiet --python /opt/verser2-guest/bin/python --no-deps /dist/*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="verser2-guest" \
      org.opencontainers.image.description="Serve an ASGI app through a Host that it dials out to, and call it" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/signicode/verser2-guest-python"
RUN groupadd --gid 10001 verser && \
    useradd --uid 10001 --gid verser --no-create-home --home-dir /app --shell /usr/sbin/nologin verser && \
    install -d -m 0755 /app && install -d -m 1777 /run/verser2-guest
COPY --from=build /opt/verser2-guest /opt/verser2-guest
# Nothing is written but the socket of the health checks: mount a tmpfs at /run/verser2-guest, all else read-only
ENV PATH=/opt/verser2-guest/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 VERSER_HEALTH__SOCKET=/run/verser2-guest/health.sock
WORKDIR /app
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["verser2-guest", "health"]
# It handles signals and reaps orphans as the first process of a container itself: no init is needed
ENTRYPOINT ["verser2-guest"]
# What /app/verser2-guest.toml and the environment say
CMD ["serve"]
