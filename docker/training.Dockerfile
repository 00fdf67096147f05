# The training image: `metaalign-train` with PyTorch for CUDA, and vLLM, with which it samples and evaluates.
#
#   docker build -f docker/training.Dockerfile -t metaalign/training .
#   docker run --rm --gpus all --read-only --tmpfs /tmp -v "$PWD/runs:/work" -v models:/var/cache/metaalign metaalign/training \
#       run recipe.yaml
#
# The folder mounted on /work holds the recipe and gets what the run makes; user 10001 must be able to write to it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
ARG UV_DEFAULT_INDEX
ENV UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUAL_ENV=/opt/metaalign
WORKDIR /build
COPY requirements requirements
RUN python -m venv /opt/tools \
    && PIP_INDEX_URL="$UV_DEFAULT_INDEX" /opt/tools/bin/pip install --no-cache-dir \
        "$(grep -o '^uv==[^ ]*' requirements/cuda.lock)" cyclonedx-bom==7.5.0 \
    && python -m venv --without-pip "$VIRTUAL_ENV"
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY clients/python clients/python
COPY server server
COPY training training
COPY checkpoints/metaalign-demo checkpoints/metaalign-demo
RUN /opt/tools/bin/uv pip install --constraints requirements/cuda.lock '.[training,cuda]' \
    && /opt/tools/bin/cyclonedx-py environment "$VIRTUAL_ENV/bin/python" --pyproject pyproject.toml \
        --output-reproducible --of JSON -o "$VIRTUAL_ENV/sbom.cdx.json"

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE}
# A C compiler: Triton compiles the launcher of each kernel when it first runs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 metaalign \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin metaalign \
    && install -d -o 10001 -g 10001 /work /var/cache/metaalign
ENV PATH=/opt/metaalign/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/var/cache/metaalign/huggingface \
    VLLM_CACHE_ROOT=/var/cache/metaalign/vllm \
    VLLM_CONFIG_ROOT=/tmp/vllm \
    TRITON_CACHE_DIR=/var/cache/metaalign/triton \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/metaalign/inductor \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /opt/metaalign /opt/metaalign
WORKDIR /work
USER 10001:10001
# A run is not a service: it ends, and its exit code says how.
HEALTHCHECK NONE
ENTRYPOINT ["metaalign-train"]
CMD ["--help"]
