"""The batch APIs of a fake endpoint.

Layout:
    options.py   how jobs are worked on, and what goes wrong
    service.py   which API a request is for
    store.py     files, jobs and rows, in SQLite
    desk.py      takes jobs, and works on them by the clock
    account.py   what was registered, and what would be billed
    replies.py   what is sent back
    openai.py    OpenAI's API, at Azure too, and Mistral's
    anthropic.py Anthropic's
    gemini.py    Gemini's
"""
