"""Addresses of objects: ``s3://bucket/key``, ``gs://bucket/key``, ``az://container/key``."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Self

from llm_datagen.errors import ConfigError

SCHEMES = ("s3", "gs", "az")
"""The protocols of object stores: Amazon S3 and what speaks its language, Google Cloud Storage, Azure Blob Storage."""

_LOST_SLASH = re.compile(r"([a-z][a-z0-9]+):/(?!/)")
_QUERY = re.compile(r"\?[\w.-]+=")


class ObjectUri(NamedTuple):
    """Where an object lies.

    Attributes:
        scheme: one of `SCHEMES`.
        bucket: the name of the bucket, or container.
        key: the name of the object in it.
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Return what a URI says. The key is taken as it stands: nothing in it is decoded.

        Raises:
            ConfigError: when it is not the address of an object. Credentials that it may hold are not in the message.
        """
        scheme, separator, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if not separator or scheme not in SCHEMES:
            raise ConfigError(f"{_without_secrets(uri)!r} is no address in an object store, such as s3://bucket/key")
        if "@" in bucket or ":" in bucket:
            raise ConfigError(
                f"{scheme}://…: credentials and ports are no part of an address, because addresses are written into "
                f"files and logs; give {scheme}://bucket/key, and the rest in the environment"
            )
        if _QUERY.search(key):
            raise ConfigError(
                f"{_without_secrets(uri)}: options and signatures are no part of an address; give {scheme}://bucket/key"
            )
        if not bucket or any(part in {"", ".", ".."} for part in key.split("/")):
            raise ConfigError(
                f"{uri!r} is no address of an object: give {scheme}://bucket/key, where no part of the key between "
                "slashes is empty, '.' or '..'"
            )
        return cls(scheme, bucket, key)

    @property
    def place(self) -> str:
        """The bucket, as a URI."""
        return f"{self.scheme}://{self.bucket}"

    def __str__(self) -> str:
        return f"{self.place}/{self.key}"


def is_object_uri(uri: str) -> bool:
    """Return whether a URI is of an object store."""
    return uri.partition("://")[0] in SCHEMES and "://" in uri


def refuse_path_of_uri(name: str, given: str | os.PathLike[str]) -> str:
    """Return a path, or a URI, as text.

    Raises:
        ConfigError: when it is a Path that was made of a URI: two slashes in it became one.
    """
    text = os.fspath(given)
    if (found := _LOST_SLASH.match(text)) is not None:
        meant = f"'{found[1]}://{text[found.end() :]}'"
        raise ConfigError(
            f"{name} is {text!r}, a URI that lost a slash, as in a Path; give text: {meant}"
            + ("" if found[1] in SCHEMES else ", or three slashes before an absolute path")
        )
    return text


def _without_secrets(uri: str) -> str:
    scheme, separator, rest = uri.partition("?")[0].partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
