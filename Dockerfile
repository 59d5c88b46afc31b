# The base install, for x86 and Arm (linux/amd64, linux/arm64): models run in ONNX Runtime on the CPU.
#
#     docker build -t cunet-deploy .
#     docker run --rm -v "$PWD:/data" cunet-deploy infer clip.mp4 -o out.mp4
#
# For both at once: docker buildx build --platform linux/amd64,linux/arm64 .
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
# /data belongs to the user of the container; a folder mounted there must be writable for number 1000
RUN useradd --create-home --uid 1000 user && install -d -o user /data
COPY tools/constraints-cpu.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt /tmp/wheels/*.whl && rm -r /tmp/wheels
USER 1000
VOLUME /data
WORKDIR /data
ENTRYPOINT ["cunet-deploy"]
CMD ["--help"]
