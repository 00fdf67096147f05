# The server's image, with one target for each engine:
#
#   docker build -f docker/server.Dockerfile --target cpu  -t metaalign/server:cpu .
#   docker build -f docker/server.Dockerfile --target cuda -t metaalign/server:cuda .
#
# It runs as user 10001 on a read-only root file system. Writable are /tmp (a tmpfs will do), /var/cache/metaalign (weights and
# compiled kernels; a volume) and /var/lib/metaalign (an SQLite store; unused with PostgreSQL).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
# For networks with mirrors, or with certificates of their own; nothing of it reaches the image.
ARG UV_DEFAULT_INDEX
ARG SSL_CERT_FILE
ARG PIP_CERT
ENV UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUAL_ENV=/opt/metaalign
WORKDIR /build
COPY requirements requirements
# The tools of the build have an environment of their own, which stays here.
RUN python -m venv /opt/tools \
    && PIP_INDEX_URL="$UV_DEFAULT_INDEX" /opt/tools/bin/pip install --no-cache-dir \
        "$(grep -o '^uv==[^ ]*' requirements/cpu.lock)" cyclonedx-bom==7.5.0 \
    && python -m venv --without-pip "$VIRTUAL_ENV"
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY clients/python clients/python
COPY server server
COPY training training
COPY checkpoints/metaalign-demo checkpoints/metaalign-demo

# What the server needs, at the versions of the lock; what tests and training need stays out.
FROM build AS build-cpu
ARG METAALIGN_TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG UV_DEFAULT_INDEX
ARG UV_FIND_LINKS
ARG SSL_CERT_FILE
# PyTorch's CPU build on its own, as in scripts/install.py: general package indexes do not have it, and its index has little else.
RUN torch="$(grep -o '^torch==[^ ]*' requirements/cpu.lock)" \
    && { /opt/tools/bin/uv pip install --no-deps "$torch" \
        || /opt/tools/bin/uv pip install --no-deps --index "$METAALIGN_TORCH_INDEX" "$torch"; } \
    && /opt/tools/bin/uv pip install --constraints requirements/cpu.lock --excludes requirements/cpu-excludes.txt \
        '.[server,cpu]' \
    && /opt/tools/bin/cyclonedx-py environment "$VIRTUAL_ENV/bin/python" --pyproject pyproject.toml \
        --output-reproducible --of JSON -o "$VIRTUAL_ENV/sbom.cdx.json"

FROM build AS build-cuda
ARG UV_DEFAULT_INDEX
ARG SSL_CERT_FILE
RUN /opt/tools/bin/uv pip install --constraints requirements/cuda.lock '.[server,cuda]' \
    && /opt/tools/bin/cyclonedx-py environment "$VIRTUAL_ENV/bin/python" --pyproject pyproject.toml \
        --output-reproducible --of JSON -o "$VIRTUAL_ENV/sbom.cdx.json"

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 10001 metaalign \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin metaalign \
    # A named volume takes over the owner of the folder that it is mounted on.
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/metaalign /var/cache/metaalign /run/secrets /run/postgres-secrets \
        /run/redis-secrets /run/grafana-secrets /run/metrics-key /run/administrator /run/tls
ENV PATH=/opt/metaalign/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/var/cache/metaalign/huggingface \
    VLLM_CACHE_ROOT=/var/cache/metaalign/vllm \
    VLLM_CONFIG_ROOT=/tmp/vllm \
    TRITON_CACHE_DIR=/var/cache/metaalign/triton \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/metaalign/inductor \
    METAALIGN_HOST=0.0.0.0
WORKDIR /var/lib/metaalign
EXPOSE 8000
# The start includes loading the weights, so the first failures do not count.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-ISc", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
COPY --chmod=0755 docker/supervised.sh /usr/local/bin/supervised
STOPSIGNAL SIGTERM
# No shell and no init between the supervisor and the server: SIGTERM reaches it, and its exit code is the container's.
ENTRYPOINT ["metaalign-server"]
CMD ["serve"]

# No compiler: on CPU the server runs vLLM with --enforce-eager unless told otherwise. vLLM's kernels are linked with libnuma.
FROM runtime AS cpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build-cpu /opt/metaalign /opt/metaalign
USER 10001:10001

# A C compiler: Triton compiles the launcher of each kernel when it first runs. CUDA's libraries come with PyTorch's wheels, the
# driver from NVIDIA's container toolkit.
FROM runtime AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/metaalign /opt/metaalign
USER 10001:10001
