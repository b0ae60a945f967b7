"""Adapters of the APIs of single providers. Each is a small class, imported when an endpoint names it.

Layout:
    openai.py           chat completions, which most providers speak
    openai_responses.py OpenAI's Responses API
    azure.py            Azure OpenAI
    anthropic.py        Anthropic's Messages API
    gemini.py           Google's generateContent
    bedrock.py          Converse of Amazon Bedrock
    mistral.py          Mistral
    ollama.py           the API of Ollama itself
    vllm.py             vLLM
    cohere.py           Cohere's own API, of vectors and reranking
    translation.py      what several of them need to put chat completions in other words
"""
