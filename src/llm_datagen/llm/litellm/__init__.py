"""Every provider that there is no adapter for, by the library litellm: ``adapter="litellm"``.

Layout:
    adapter.py   LiteLLMAdapter: says that the library makes the calls
    transport.py makes them, in the place of HttpTransport
    library.py   the library, imported when it is needed
    prices.py    what the library knows of prices

Needs the extra ``litellm``, which is imported when the first operator of the process is set up.
"""
