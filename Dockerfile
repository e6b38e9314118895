# The image of every process but the full retrain. What the build may see at all: .dockerignore.
# Images are named by digest, tags for people; how to pin newer ones: docs/operations.md.
FROM python:3.11.15-slim-bookworm@sha256:b18992999dbe963a45a8a4da40ac2b1975be1a776d939d098c647482bcad5cba AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY learners learners
COPY snapshots snapshots
COPY stream stream
RUN python -m venv /opt/holdfast && /opt/holdfast/bin/pip install --no-cache-dir --constraint constraints.txt '.[archive,baseline,fast,s3,signing]'

FROM python:3.11.15-slim-bookworm@sha256:b18992999dbe963a45a8a4da40ac2b1975be1a776d939d098c647482bcad5cba
RUN groupadd --system --gid 10001 holdfast && useradd --system --uid 10001 --gid 10001 --home-dir /lineage holdfast \
    && install -d /lineage && install -d -m 0700 -o holdfast -g holdfast /store
COPY --from=build /opt/holdfast /opt/holdfast
ENV PATH=/opt/holdfast/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
USER 10001:10001
WORKDIR /lineage
EXPOSE 8000
CMD ["holdfast", "up"]
