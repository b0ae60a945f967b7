"""Azure OpenAI: chat completions at addresses of their own, with the key in a header of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from llm_datagen.llm.http.providers.openai import OpenAIAdapter

if TYPE_CHECKING:
    from llm_datagen.llm.http.batch.base import BatchAdapter

API_VERSION = "2024-10-21"
"""The version of the API of deployments, unless the address or the environment says another one."""


class AzureAdapter(OpenAIAdapter):
    """Speaks the v1 API: ``POST {base_url}/openai/v1/chat/completions``. The model is the name of a deployment."""

    base_url = ""
    base_url_env = "AZURE_OPENAI_ENDPOINT"
    api_key_env = "AZURE_OPENAI_API_KEY"
    url_ends: Sequence[str] = ("/openai/v1", "/openai")

    def path(self, model: str) -> str:
        """Return the path of the v1 API."""
        return "/openai/v1/chat/completions"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as ``api-key``."""
        return {"api-key": api_key} if api_key else {}

    def batch(self) -> BatchAdapter | None:
        """Return the Batch API of v1. The deployment must be one for batches."""
        from llm_datagen.llm.http.batch.openai import OpenAIBatchAdapter

        return OpenAIBatchAdapter(prefix="/openai/v1")


class AzureDeploymentsAdapter(AzureAdapter):
    """Speaks the older API, whose address names the deployment and a version.

    The version is the ``api-version`` of the `base_url`, else the environment variable ``OPENAI_API_VERSION``, else
    `API_VERSION`.
    """

    prompt_cache = "itself"  # its versions do not know the key
    url_ends: Sequence[str] = ("/openai/deployments", "/openai/v1", "/openai")

    def path(self, model: str) -> str:
        """Return the path of the deployment that the model names."""
        version = os.environ.get("OPENAI_API_VERSION") or API_VERSION
        return f"/openai/deployments/{quote(model, safe='')}/chat/completions?api-version={quote(version, safe='')}"

    def batch(self) -> BatchAdapter | None:
        """Return None: jobs are taken by v1."""
        return None
