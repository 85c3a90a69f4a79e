# docker build -t stan-ct .                                      CPU: ONNX Runtime, the PACS node
# docker build -t stan-ct --build-arg EXTRAS=gpu,cluster .       CUDA, with TensorFlow's own libraries; docker run --gpus=all
# docker run --rm --network=none -u $(id -u) -v $PWD:/data stan-ct reconstruct /data/in /data/out
FROM python:3.12-slim AS build
ARG EXTRAS=onnx,node
RUN python -m venv /opt/stan-ct
COPY setup.py pyproject.toml README.md LICENSE /src/
COPY stan_ct /src/stan_ct
# A folder wheels/ (make wheels) is used where there is one, and then no index.
COPY LICENSE wheels* /wheels/
RUN if ls /wheels/*.whl >/dev/null 2>&1; then from="--no-index --find-links=/wheels"; fi && \
    /opt/stan-ct/bin/python -m pip install --no-cache-dir $from "/src[$EXTRAS]"

FROM python:3.12-slim
COPY --from=build /opt/stan-ct /opt/stan-ct
ENV PATH=/opt/stan-ct/bin:$PATH HOME=/tmp
USER 10001
ENTRYPOINT ["stan-ct"]
CMD ["--help"]
