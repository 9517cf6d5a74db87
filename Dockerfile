# One image for all services: `darkroom api`, `darkroom generator`, `darkroom janitor`, `darkroom webhooks`, `darkroom inference`.

FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements/build.txt .
RUN pip install --no-cache-dir --require-hashes -r build.txt
COPY pyproject.toml LICENSE ./
COPY common common
COPY services services
COPY clients/python clients/python
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels ./clients/python .

FROM python:3.13-slim
# Libraries come first, because they change rarely: a change of the code does not install them again.
# With the extras `otel`, since the platform may set OTEL_EXPORTER_OTLP_ENDPOINT for all containers, and `objects`.
COPY requirements/image.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/requirements.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl

# Create the folders before a volume is mounted there: a new volume takes their owner.
RUN useradd --system --uid 10001 darkroom \
    && mkdir -p /srv/darkroom/var/media \
    && chown -R darkroom: /srv/darkroom
WORKDIR /srv/darkroom
USER darkroom
ENV PYTHONUNBUFFERED=1
EXPOSE 8000
CMD ["darkroom", "up"]
