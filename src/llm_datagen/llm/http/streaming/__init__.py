"""Answers that are streamed: read event by event, and put together into the body that an adapter reads.

Layout:
    options.py    what a user says of it
    frames.py     bytes become events: server-sent events, and lines of JSON
    aws_frames.py the same for the event streams of AWS
    assembly.py   how an API streams, and what puts its events together
    reader.py     reads a response, in time and up to a bound
    errors.py     what can go wrong with that
    chat.py       chat completions
    messages.py   Anthropic's Messages API
    responses.py  OpenAI's Responses API
    candidates.py Google's streamGenerateContent
    ollama.py     the API of Ollama
    converse.py   ConverseStream of Amazon Bedrock
"""
