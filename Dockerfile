FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/holdfast && /opt/holdfast/bin/pip install --no-cache-dir --constraint constraints.txt '.[archive,baseline,s3,signing]'

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /lineage holdfast && mkdir -p /lineage /store && chown holdfast /store
COPY --from=build /opt/holdfast /opt/holdfast
ENV PATH=/opt/holdfast/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER holdfast
WORKDIR /lineage
EXPOSE 8000
CMD ["holdfast", "up"]
