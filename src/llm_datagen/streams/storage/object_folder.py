"""A folder of small objects, such as that of a run: each is read and put as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.streams.storage.bucket import Bucket, Version
from llm_datagen.streams.storage.object_clients import client_of, renewed_client
from llm_datagen.streams.storage.object_requests import Patience, Requests
from llm_datagen.streams.storage.object_uri import ObjectUri
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

_SECONDS = 10.0
"""How long a request may take: less than a lease is good."""

_ONCE = Patience(tries=1)
"""The client repeats a request for some seconds; who waits for longer has to do something meanwhile."""


class ObjectFolder:
    """The small objects of a folder on a store. Any thread may use it.

    Args:
        uri: the folder, such as ``s3://bucket/runs/job``.

    Raises:
        ConfigError: when the library for stores is not installed, or the URI is not one.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._where = ObjectUri.parse(uri)
        of = self._where.scheme, self._where.bucket, _SECONDS
        self._bucket = Bucket(Requests(client_of(*of), self._where.place, _ONCE, lambda old: renewed_client(old, *of)))

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """Return what an object holds, and its version; None when there is none.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        return self._bucket.get(self._key(name))

    def put_if(self, name: str, data: bytes, version: Version | None) -> Version | None:
        """Put an object in place of a version of it. Return the new version; None when another one is there.

        Args:
            name: the object.
            data: what it is to hold, which must differ from what any other process may put there.
            version: the version that is replaced; None: there must be no such object.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        return self._bucket.put_if(self._key(name), data, version)

    def replace(self, name: str, data: bytes) -> None:
        """Put an object, whatever is there.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        self._bucket.put(self._key(name), data)

    def remove(self, name: str) -> None:
        """Remove an object if it is there.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        self._bucket.delete([self._key(name)])

    def folders(self) -> Sequence[str]:
        """Return the names of the folders in this one.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        return self._bucket.folders(self._where.key)

    def check_conditional_puts(self) -> None:
        """Check, once for each bucket, that its store refuses puts whose condition does not hold.

        Raises:
            StreamError: when it does not, so that two processes could both have what one is to have.
            DiskError: when it refuses, or cannot be reached.
        """
        OBJECT_STORAGE.check_conditional_puts(f"{self.uri}/-")

    def _key(self, name: str) -> str:
        return f"{self._where.key}/{name}"
