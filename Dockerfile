# The images of both services, a target each: `docker build --target trainer .`, `docker build --target inference .`
# An image holds the locked dependencies of its role and the two packages it runs. It does not run as root, needs
# no writable root file system, and downloads nothing at start.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ONLY_BINARY=:all: PIP_QUIET=1
# The environment never holds pip itself: the base image's pip installs into it from outside.
RUN python -m venv --without-pip /venv
WORKDIR /app

# The libraries' own tests go: a fifth of what the trainer needs, an eighth of what inference needs. Byte code is made
# here because the services cannot write it later. The import at the end fails the build, not the container, if a
# dependency is missing.
FROM build AS trainer-build
COPY requirements/trainer.txt /tmp/
RUN python -m pip --python /venv install --require-hashes -r /tmp/trainer.txt \
 && find /venv/lib -type d \( -name tests -o -path '*/onnx/backend/test' \) -prune -exec rm -rf {} + \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv/lib
COPY shared shared
COPY trainer_service trainer_service
RUN python -m compileall -q --invalidation-mode unchecked-hash . \
 && /venv/bin/python -c 'import sklearn.datasets, trainer_service.__main__, trainer_service.onnx_export, trainer_service.worker'

FROM build AS inference-build
COPY requirements/inference.txt /tmp/
RUN python -m pip --python /venv install --require-hashes -r /tmp/inference.txt \
 && find /venv/lib -type d -name tests -prune -exec rm -rf {} + \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv/lib
COPY shared shared
COPY inference_service inference_service
RUN python -m compileall -q --invalidation-mode unchecked-hash . \
 && /venv/bin/python -c 'import inference_service.__main__'

FROM python:3.13-slim AS runtime
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# /cache and /snapshots are where the services mount volumes; a new one takes its owner from here.
RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /tmp --shell /usr/sbin/nologin weightcast \
 && install -d -o 10001 -g 10001 /cache /snapshots
WORKDIR /app
STOPSIGNAL SIGTERM

FROM runtime AS trainer
COPY --from=trainer-build /venv /venv
COPY --from=trainer-build /app /app
# Only now, so that the code belongs to root; and by number, so that an orchestrator can see that this is not root.
USER 10001:10001
ENV WEIGHTCAST_TRAINER_LISTEN=0.0.0.0:50051 WEIGHTCAST_CACHE_DIR=/cache
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-m", "shared.health_probe", "127.0.0.1:50051", "--service", "liveness"]
ENTRYPOINT ["python", "-m", "trainer_service"]

FROM runtime AS inference
COPY --from=inference-build /venv /venv
COPY --from=inference-build /app /app
USER 10001:10001
ENV WEIGHTCAST_INFERENCE_LISTEN=0.0.0.0:50052 WEIGHTCAST_INFERENCE_METRICS_LISTEN=0.0.0.0:50053
EXPOSE 50052 50053
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-m", "shared.health_probe", "127.0.0.1:50052", "--service", "liveness"]
ENTRYPOINT ["python", "-m", "inference_service"]
