# kiss3d-orchestrate in a container, with its web page. docs/docker.md says how to use it.
#
#   docker build -t kiss3d .                          for NVIDIA cards, and CPUs
#   docker build -t kiss3d:cpu --build-arg TORCH=cpu .     for CPUs alone, a third of the size

FROM python:3.12-slim-bookworm

# Who runs the container may be anybody (--user), so home, weights and work are open to all.
RUN useradd --create-home --uid 1000 kiss3d \
    && chmod 1777 /home/kiss3d \
    && install -d -m 1777 /weights /data /home/kiss3d/.cache /home/kiss3d/.cache/kiss3d-orchestrate \
        /home/kiss3d/.cache/kiss3d-orchestrate/models \
    && install -d -o kiss3d -g kiss3d /opt/kiss3d
USER kiss3d
ENV HOME=/home/kiss3d HF_HOME=/weights PATH=/opt/kiss3d/bin:$PATH
RUN python -m venv /opt/kiss3d

ARG TORCH=cuda
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu
COPY --chown=kiss3d:kiss3d requirements /tmp/source/requirements
# For cards the exact files of requirements/; for the CPU alone the same versions, but PyTorch's own
# builds without CUDA, of which those files have no hashes.
RUN cd /tmp/source/requirements \
    && export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    && if [ "$TORCH" = cpu ]; then \
        sed -nE 's/^([A-Za-z0-9._-]+==.*[^ \\])[ \\]*$/\1/p' run.txt web.txt \
            | grep -vE '^(torch|torchvision|triton|cuda-.*|nvidia-(cu|nc|nv).*|easypytorch3d|iopath)==' \
            >exact.txt \
        && pip install --index-url "$CPU_INDEX" $(grep -oE '^(torch|torchvision)==[^ ]+' run.txt) \
        && pip install --no-deps --only-binary :all: -r exact.txt; \
    else \
        pip install --no-deps --require-hashes --only-binary :all: --no-binary iopath \
            -r run.txt -r web.txt; \
    fi

COPY --chown=kiss3d:kiss3d . /tmp/source
# The example is run once, which compiles what runs on the CPU and proves that the image works.
RUN pip install --no-cache-dir --no-deps /tmp/source \
    && cd /tmp && kiss3d-orchestrate run /tmp/source/examples/robot.png --profile sketch \
        --output /tmp/first-run \
    && rm -rf /tmp/first-run /tmp/source

WORKDIR /data
VOLUME ["/weights", "/data"]
EXPOSE 7860
ENTRYPOINT ["kiss3d-orchestrate"]
CMD ["--help"]
