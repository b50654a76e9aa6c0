# docker build -t my-wsgi-server . && docker run -p 8081:8081 my-wsgi-server
#
# Both bases need Debian's apt and the same Python at the same path, because the environment is made on the one and
# runs on the other. Where no registry is reachable, other images can be named; `make test-container` does so.
ARG BUILDER_IMAGE=python:3.13-slim-trixie
ARG RUNTIME_IMAGE=python:3.13-slim-trixie


FROM ${BUILDER_IMAGE} AS builder

# Debian's cargo brings rustc, the linker and the headers of libc along; a builder that has Rust keeps its own.
RUN command -v cargo >/dev/null && command -v cc >/dev/null || { \
        apt-get update && \
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends cargo && \
        rm -rf /var/lib/apt/lists/*; \
    }

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /build
COPY Cargo.toml Cargo.lock pyproject.toml ./

# The crates are compiled below an empty library, in a layer of their own: a change of the sources does not build them
# again. maturin does it, for it sets what pyo3 is configured by. It warns of the missing PyInit, which comes below.
RUN python3 -m venv /opt/tools && \
    /opt/tools/bin/python -m pip install --group build && \
    mkdir -p src python/wsgi python/wsgi_server && \
    touch src/lib.rs README.md LICENSE && \
    PATH=/opt/tools/bin:$PATH maturin build --release --locked --compatibility linux --out /tmp/unused

COPY README.md LICENSE ./
COPY src src
COPY python python

# cargo goes by the time of a file, and a file of the context may be older than the empty library: hence the touch.
RUN touch src/lib.rs && \
    PATH=/opt/tools/bin:$PATH maturin build --release --locked --compatibility linux --out /wheels && \
    python3 -m venv /opt/wsgi && \
    /opt/wsgi/bin/python -m pip install /wheels/*.whl


# Files are copied here and nothing is run, so that the image is its base and these files: no compiler, no cache.
FROM ${RUNTIME_IMAGE}

COPY --from=builder /opt/wsgi /opt/wsgi
# The mode is given, because that of a careful user's checkout may let nobody else read.
COPY --chmod=644 containers/healthcheck.py /opt/wsgi/healthcheck.py
COPY --chmod=644 examples/app.py /app/app.py

# PORT is the weakest place to name a port: WSGI_PORT, --port and a platform that sets PORT itself all stand above it.
# `docker stop` kills after ten seconds, so what runs gets a little less to finish.
ENV PATH=/opt/wsgi/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    WSGI_HOST=0.0.0.0 \
    PORT=8081 \
    WSGI_GRACEFUL_TIMEOUT=9

WORKDIR /app
EXPOSE 8081

# A number, because some platforms judge by it whether this is root. The files belong to root: the server reads them.
USER 10001:10001

# -I, so that no module beside the application is taken for one of Python's.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-I", "/opt/wsgi/healthcheck.py"]

# No shell stands between: SIGTERM reaches the server itself, which finishes what runs.
STOPSIGNAL SIGTERM
ENTRYPOINT ["wsgi"]
CMD ["app:app"]
