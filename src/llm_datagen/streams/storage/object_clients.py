"""The clients of object stores: one per bucket, set up by the environment as the vendors' own programs are."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
_ENDPOINTS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
    "GOOGLE_BASE_URL",
)
RETRIES = 6
"""How often a client repeats a request by itself, at most."""

REQUEST_SECONDS = 120.0
"""How long a request may take; it is repeated for half of that."""

_clients: dict[tuple[str, str, float, int], ObjectStore] = {}
_lock = threading.Lock()


def client_of(scheme: str, bucket: str, seconds: float = REQUEST_SECONDS) -> ObjectStore:
    """Return the client of a bucket. When the environment has changed, it is another one. Any thread may call it.

    Args:
        scheme: the protocol.
        bucket: the bucket.
        seconds: how long a request may take; it is repeated for half of that.

    Raises:
        ConfigError: when the library is not installed, or the environment lacks something.
    """
    of_stores = hash(frozenset(item for item in os.environ.items() if item[0].startswith(_PREFIXES)))
    key = scheme, bucket, seconds, of_stores
    with _lock:
        if key not in _clients:
            _clients[key] = _new_client(scheme, bucket, seconds)
        return _clients[key]


def renewed_client(old: ObjectStore, scheme: str, bucket: str, seconds: float = REQUEST_SECONDS) -> ObjectStore:
    """Return a client in place of one whose credentials have expired: it has read them anew. Any thread may call it.

    Args:
        old: that client; when another thread has replaced it already, the new one is returned.
        scheme: the protocol.
        bucket: the bucket.
        seconds: how long a request may take, as of `client_of`.
    """
    with _lock:
        for key in [key for key, client in _clients.items() if client is old]:
            del _clients[key]
    return client_of(scheme, bucket, seconds)


def _new_client(scheme: str, bucket: str, seconds: float) -> ObjectStore:
    try:
        from obstore import store
    except ImportError:
        raise ConfigError(f"{scheme}:// needs obstore: pip install 'llm-datagen[remote]'") from None
    options: dict[str, Any] = {"client_options": _client_options(seconds), "retry_config": _retry_config(seconds / 2)}
    try:
        if scheme == "s3":
            return store.S3Store(bucket, **options, **_profile())
        if scheme == "gs":
            return store.GCSStore(bucket, **options)
        return store.AzureStore(bucket, **options)
    except Exception as error:  # noqa: BLE001 - its classes differ from store to store
        why = str(error).partition("\n")[0]
        raise ConfigError(f"{scheme}://{bucket}: the environment does not say how to reach it: {why}") from None


def _client_options(seconds: float) -> dict[str, Any]:
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    return {"timeout": timedelta(seconds=seconds), "connect_timeout": timedelta(seconds=10), "allow_http": plain}


def _retry_config(seconds: float) -> dict[str, Any]:
    backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2}
    return {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=seconds), "backoff": backoff}


def _profile() -> dict[str, Any]:
    """Return who gives the credentials of a profile: boto3, where it is installed. The client knows no profiles."""
    files = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), "~/.aws/config"
    has_profile = "AWS_PROFILE" in os.environ or any(Path(file).expanduser().is_file() for file in files)
    if "AWS_ACCESS_KEY_ID" in os.environ or not has_profile:
        return {}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return {"credential_provider": Boto3CredentialProvider()}
    except ImportError:
        return {}  # it says then that there are no credentials
