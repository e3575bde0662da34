# Two images from one file:
#
#   docker build --target gpu -t auralsam2-service:gpu .     NVIDIA's Triton Inference Server, TensorRT and PyTorch for CUDA
#   docker build --target cpu -t auralsam2-service:cpu .     the embedded server of requirements/, runs anywhere
#
# Each has a builder, which makes the virtual environments, and a runtime, which copies them. Packages come from where
# the builder's pip looks; a mirror of your own (or PyTorch's index of CPU wheels, which spares the cpu image gigabytes of
# CUDA libraries) is named in a pip.conf that stays out of the image: --secret id=pip_conf,src=pip.conf
#
# A tag can be moved, a digest cannot. Pin what you deploy:
#   docker buildx imagetools inspect nvcr.io/nvidia/tritonserver:26.11-py3 --format '{{.Manifest.Digest}}'
#   docker build --target gpu --build-arg TRITON_DIGEST=sha256:... .

# 26.07 is the first release without the security holes that are known today (NVIDIA's bulletins up to September 2026);
# 26.11 mends a use-after-free in the dynamic batcher, and gRPC streams that were cancelled in silence.
ARG TRITON_VERSION=26.11
ARG TRITON_DIGEST=
# Debian 12: the embedded server needs glibc 2.35. The image's Python has its shared library, which the stages need.
ARG PYTHON_VERSION=3.11.14-slim-bookworm
ARG PYTHON_DIGEST=


FROM python:${PYTHON_VERSION}${PYTHON_DIGEST:+@${PYTHON_DIGEST}} AS cpu-builder

# Where pip keeps what it fetched, in a mount that no layer holds.
ENV PIP_CACHE_DIR=/var/cache/pip

# Inside the environment, so that the runtime copies both at once.
WORKDIR /opt/auralsam2/checkout
COPY requirements requirements
# As in the Makefile: torch first and pinned, the rest locked with hashes (requirements/README.md); sam2 without its
# dependencies and against that torch; the server's own environment with numpy 1. pip stays outside of both environments,
# so it is not in the image either.
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/auralsam2 \
    && python3 -m pip --python /opt/auralsam2/bin/python install --require-hashes -r requirements/locked/build.txt \
    && python3 -m pip --python /opt/auralsam2/bin/python install -r requirements/torch.txt \
    && python3 -m pip --python /opt/auralsam2/bin/python install --require-hashes --no-deps --no-build-isolation \
        -r requirements/locked/image.txt \
    && SAM2_BUILD_CUDA=0 python3 -m pip --python /opt/auralsam2/bin/python install --require-hashes --no-deps \
        --no-build-isolation -r requirements/sam2.txt \
    && python3 -m venv --without-pip /opt/server \
    && python3 -m pip --python /opt/server/bin/python install --require-hashes --no-deps -r requirements/locked/server.txt \
    && python3 -m pip --python /opt/server/bin/python install --require-hashes --no-deps -r requirements/tritonserver.txt
COPY auralsam2 auralsam2
COPY auralsam2_client auralsam2_client
COPY export export
COPY kernels kernels
COPY model_repository model_repository
COPY service service
COPY LICENSE ./
# The rooms are used from here, as from a checkout; compiled once, since the runtime's root is read-only.
RUN /opt/auralsam2/bin/python requirements/checkout.py \
    && /opt/auralsam2/bin/python -m compileall -q .


FROM python:${PYTHON_VERSION}${PYTHON_DIGEST:+@${PYTHON_DIGEST}} AS cpu

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="AuralSAM2, served on a CPU" \
      org.opencontainers.image.description="Sounding objects of a clip, segmented: AuralSAM2 as a Triton ensemble" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

# The front door. Fixes of a release come with a new build of the image.
RUN apt-get update \
    && apt-get install -y --no-install-recommends "nginx-light=1.22.1-*" "libnginx-mod-http-headers-more-filter=1:0.34-*" \
    && rm -rf /var/lib/apt/lists/*
COPY --from=cpu-builder /opt/auralsam2 /opt/auralsam2
COPY --from=cpu-builder /opt/server /opt/server
COPY --chmod=0555 service/container/entrypoint.sh /usr/local/bin/entrypoint
# A named volume takes its owner from these folders: builds, and what engines compiled where a build is mounted read-only.
RUN install --directory --owner=1000 --group=1000 /models /var/cache/auralsam2

# HOME is where a read-only container can write.
ENV PATH=/opt/auralsam2/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    AURALSAM2_TARGET=cpu \
    AURALSAM2_VOLUME=/models \
    AURALSAM2_CACHE_DIR=/var/cache/auralsam2 \
    AURALSAM2_SERVER_ENV=/opt/server \
    AURALSAM2_RELEASE=${VERSION}
WORKDIR /tmp
USER 1000:1000

# The server and its stub find all their libraries here, or there is no image.
RUN ["python", "-c", "import pathlib, service.commands.doctor as d; f = d.check_server(pathlib.Path('/opt/server')); raise SystemExit(not f.ok and f.found)"]

VOLUME /models /var/cache/auralsam2
EXPOSE 8001
# Ready on the container's own loopback. The first start makes the build, which takes minutes.
HEALTHCHECK --interval=10s --timeout=10s --start-period=20m --retries=3 \
    CMD ["python", "-m", "service.container.healthcheck"]
# The supervisor waits for the calls under way (30 s, AURALSAM2_DRAIN_TIMEOUT_S), then ends the server with SIGTERM. Give it
# longer than Docker's 10 s: docker stop --time 75. With --init, orphans of a restarted server are reaped.
STOPSIGNAL SIGTERM
ENTRYPOINT ["entrypoint"]


FROM nvcr.io/nvidia/tritonserver:${TRITON_VERSION}-py3${TRITON_DIGEST:+@${TRITON_DIGEST}} AS gpu-builder

# Where pip keeps what it fetched, in a mount that no layer holds.
ENV PIP_CACHE_DIR=/var/cache/pip

# An engine runs on the TensorRT that built it, so the image's own is installed, as its library says. A TENSORRT_VERSION
# that is given is held against it, and the builder stops when they differ.
ARG TENSORRT_VERSION=
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN found=$(find / -xdev -name 'libnvinfer.so.*.*.*' -printf '%f\n' | sed 's/^libnvinfer[.]so[.]//' | sort -u | tr '\n' ' ') \
    && if [[ ! "${found% }" =~ ^[0-9.]+$ || "${TENSORRT_VERSION:-${found% }}" != "${found% }" ]]; then \
        echo "TENSORRT_VERSION=${TENSORRT_VERSION:-any one}, but this image holds: ${found:-none}" >&2; exit 1; fi \
    && printf '%s\n' "${found% }" > /opt/tensorrt_version

# Inside the environment, so that the runtime copies both at once.
WORKDIR /opt/auralsam2/checkout
COPY requirements requirements
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/auralsam2 \
    && python3 -m pip --python /opt/auralsam2/bin/python install --require-hashes -r requirements/locked/build.txt \
    && python3 -m pip --python /opt/auralsam2/bin/python install -r requirements/torch-cuda.txt \
    && python3 -m pip --python /opt/auralsam2/bin/python install --require-hashes --no-deps --no-build-isolation \
        -r requirements/locked/image.txt \
    && SAM2_BUILD_CUDA=0 python3 -m pip --python /opt/auralsam2/bin/python install --require-hashes --no-deps \
        --no-build-isolation -r requirements/sam2.txt \
    && python3 -m pip --python /opt/auralsam2/bin/python install "tensorrt-cu13==$(cat /opt/tensorrt_version).*"
COPY auralsam2 auralsam2
COPY auralsam2_client auralsam2_client
COPY export export
COPY kernels kernels
COPY model_repository model_repository
COPY service service
COPY LICENSE ./
# The rooms are used from here, as from a checkout; compiled once, since the runtime's root is read-only.
RUN /opt/auralsam2/bin/python requirements/checkout.py \
    && /opt/auralsam2/bin/python -m compileall -q .


FROM nvcr.io/nvidia/tritonserver:${TRITON_VERSION}-py3${TRITON_DIGEST:+@${TRITON_DIGEST}} AS gpu

ARG TRITON_VERSION
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="AuralSAM2, served on GPUs" \
      org.opencontainers.image.description="Sounding objects of a clip, segmented: AuralSAM2 as a Triton ensemble" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tritonserver:${TRITON_VERSION}-py3"

# The front door, as in the cpu image; Ubuntu 24.04's packages.
RUN apt-get update \
    && apt-get install -y --no-install-recommends "nginx=1.24.*" "libnginx-mod-http-headers-more-filter=1:0.3*" \
    && rm -rf /var/lib/apt/lists/*
COPY --from=gpu-builder /opt/auralsam2 /opt/auralsam2
COPY --chmod=0555 service/container/entrypoint.sh /usr/local/bin/entrypoint
# As in the cpu image; an onnx-gpu build keeps its engines in the second one.
RUN install --directory --owner=1000 --group=1000 /models /var/cache/auralsam2

# NVIDIA's own entry point is not run: the host's driver must be one that this release supports, or the container
# toolkit must bring in the image's CUDA compatibility libraries. An engine is tied to the release and the TensorRT in it,
# so a build is too.
ENV PATH=/opt/auralsam2/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    AURALSAM2_TARGET=tensorrt \
    AURALSAM2_VOLUME=/models \
    AURALSAM2_CACHE_DIR=/var/cache/auralsam2 \
    AURALSAM2_TRITONSERVER=/opt/tritonserver \
    AURALSAM2_RELEASE=${VERSION}-triton-${TRITON_VERSION}
WORKDIR /tmp
# The image's own user triton-server, by number, so that an orchestrator can see that it is not root.
USER 1000:1000

# The server finds its libraries, lists its flags and has every backend that a build needs, or there is no image.
RUN ["python", "-c", "import pathlib, service.commands.doctor as d; f = d.check_installed_server(pathlib.Path('/opt/tritonserver')); raise SystemExit(not f.ok and f.found)"]

VOLUME /models /var/cache/auralsam2
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=10s --start-period=60m --retries=3 \
    CMD ["python", "-m", "service.container.healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["entrypoint"]
