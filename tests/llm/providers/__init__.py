"""The APIs that there are adapters for: shapes of their requests, answers and failures.

Written by hand after the public documentation of each, with data of our own.
"""

from .anthropic import ANTHROPIC
from .api import CASES, Api, Sent
from .batches import BATCHES
from .bedrock import BEDROCK
from .chat import AZURE, AZURE_DEPLOYMENTS, MISTRAL, OPENAI, VLLM
from .gemini import GEMINI
from .ollama import OLLAMA
from .responses import RESPONSES

APIS = (OPENAI, RESPONSES, AZURE, AZURE_DEPLOYMENTS, ANTHROPIC, GEMINI, BEDROCK, MISTRAL, OLLAMA, VLLM)

__all__ = ["APIS", "BATCHES", "CASES", "GEMINI", "RESPONSES", "Api", "Sent"]
