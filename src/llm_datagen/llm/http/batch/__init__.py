"""Batch APIs of providers: jobs of many requests, answered within a day or so at half the price.

Layout:
    base.py      what a job is, and what an adapter of a batch API does
    openai.py    OpenAI's, and what others have of it
    mistral.py   Mistral's
    anthropic.py Anthropic's
    gemini.py    Gemini's
    lines.py     the rows of a job as they are sent
    reading.py   reading what a provider says
"""
