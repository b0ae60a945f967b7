"""vLLM's server: chat completions with more params."""

from __future__ import annotations

from llm_datagen.llm.http.providers.openai import OpenAIAdapter


class VLLMAdapter(OpenAIAdapter):
    """Speaks chat completions with a vLLM server, on this machine unless told otherwise.

    Its own params stand beside the others: ``structured_outputs`` (``{"choice": […]}``, ``{"regex": …}``,
    ``{"grammar": …}``; ``guided_choice`` and the like before 0.12), ``top_k``, ``min_p``, ``repetition_penalty``,
    ``chat_template_kwargs``, ``priority``.
    """

    prompt_cache = "itself"
    base_url = "http://localhost:8000/v1"
    base_url_env = "VLLM_BASE_URL"
    api_key_env = "VLLM_API_KEY"
    wanted_back = ("reasoning", "reasoning_content")

    def batch(self) -> None:
        """Return None: the server takes no jobs."""
        return
