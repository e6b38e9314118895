"""The store at ``s3://bucket/prefix``: an object store that creates if absent (conditional put), by obstore.

Credentials, region and endpoint come from the environment as for every S3 tool (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``), or but for secrets from ``[store.options]``.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from learners.extras import install
from snapshots.errors import DamagedError, StoreError
from snapshots.store.confined import refuse_larger, steps
from snapshots.store.redaction import without_passwords, without_values
from snapshots.store.size_limits import most_bytes, refuse_unreadable

_TRIES, _REQUEST_SECONDS, _TRYING_SECONDS = 3, 10, 20


def where(url: str) -> tuple[str, str]:
    """The bucket and the prefix that ``s3://bucket/prefix`` names; raise :class:`StoreError` for any other address.

    What it says of the address holds no password, signature or key.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise StoreError("store.url is no address that can be read: write s3://bucket/prefix, or a directory") from None
    if parts.scheme != "s3" or not parts.netloc:
        raise StoreError(f"store.url {without_passwords(url)!r} is neither a directory nor s3://bucket/prefix")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise StoreError(
            "store.url holds more than s3://bucket/prefix (a user, a password, a query or a #), which may be a secret: "
            "credentials go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, other settings into [store.options]"
        )
    return parts.netloc, parts.path.strip("/")


class ObjectStore:
    """Keeps the contract of :class:`snapshots.store.store.Store`; what cannot be done now is tried again for 20 s."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        try:
            import obstore  # noqa: PLC0415  an optional extra
            from obstore.store import S3Store  # noqa: PLC0415  the same
        except ImportError as cause:
            raise StoreError(f"a store.url with :// needs obstore: {install('s3')}") from cause
        bucket, prefix = where(url)
        self.url, self._obstore, self._options = url, obstore, dict(options or {})
        self._prefix = f"{prefix}/" if prefix else ""
        try:
            self._inner = S3Store(
                bucket,
                config=self._options,
                client_options={"allow_http": True, "timeout": timedelta(seconds=_REQUEST_SECONDS)},
                retry_config={"max_retries": _TRIES, "retry_timeout": timedelta(seconds=_TRYING_SECONDS)},
            )
        except (obstore.exceptions.BaseError, ValueError, TypeError) as cause:
            raise StoreError(f"store.url {url!r} cannot be opened: {self._said(cause)}") from cause

    def get(self, name: str, most: int | None = None) -> bytes | None:
        """Return the blob, or None; :class:`DamagedError` for a name that would lead out of the store."""
        steps(name, DamagedError)
        try:
            found = self._obstore.get(self._inner, self._prefix + name)
            refuse_larger(f"{self.url.rstrip('/')}/{name}", found.meta["size"], most_bytes(name), most)
            return bytes(found.bytes())
        except FileNotFoundError as cause:
            if "NoSuchBucket" in str(cause):
                raise self._trouble("read", name, cause) from cause
            return None
        except (self._obstore.exceptions.BaseError, OSError) as cause:
            raise self._trouble("read", name, cause) from cause

    def create(self, name: str, data: bytes) -> bool:
        """Put the blob on condition that the name is free; the server decides who was first."""
        steps(name)
        refuse_unreadable(name, len(data))
        try:
            self._obstore.put(self._inner, self._prefix + name, data, mode="create", use_multipart=False)
        except (FileExistsError, self._obstore.exceptions.AlreadyExistsError):
            return False
        except (self._obstore.exceptions.BaseError, OSError) as cause:
            raise self._trouble("write", name, cause) from cause
        return True

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Names below ``prefix``, sorted."""
        if prefix:
            steps(prefix.removesuffix("/"))
        begin = len(self._prefix)
        offset = self._prefix + after if after else None
        try:
            lots = self._obstore.list(self._inner, prefix=self._prefix + prefix, offset=offset)
            found = [one["path"][begin:] for lot in lots for one in lot]
        except (self._obstore.exceptions.BaseError, OSError) as cause:
            raise self._trouble("list", prefix, cause) from cause
        return sorted(name for name in found if name > after)

    def delete(self, name: str) -> None:
        """Delete the blob if it is there."""
        steps(name)
        try:
            self._obstore.delete(self._inner, self._prefix + name)
        except FileNotFoundError:
            return
        except (self._obstore.exceptions.BaseError, OSError) as cause:
            raise self._trouble("delete", name, cause) from cause

    def _said(self, cause: BaseException) -> str:
        return without_values(str(cause).strip().split("\n", 1)[0], self._options)[:300]

    def _trouble(self, what: str, name: str, cause: Exception) -> StoreError:
        return StoreError(
            f"cannot {what} {self.url.rstrip('/')}/{name}: {self._said(cause)}. Is the object store there, and may "
            "these credentials (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL) use the bucket?"
        )
