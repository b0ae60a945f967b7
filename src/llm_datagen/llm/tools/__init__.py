"""Tools that a model may use: the operator executes its calls, and asks again with what they returned.

Layout:
    options.py        what a user says of them
    mcp_options.py    what a user says of an MCP server
    names.py          what a tool may be called
    docstrings.py     what a docstring says of a function
    function.py       a function as a tool: its schema, and what it is called with
    threads.py        where plain functions are called
    results.py        what a tool returned, as a text
    rounds.py         the rounds of a row, and their bounds
    mcp_connection.py an MCP server, kept up by one task
    mcp_tool.py       a tool of such a server
    stderr_tail.py    the end of its standard error
    watched_stream.py how its death is noticed
    toolbox.py        all tools of an operator
    given.py          the toolbox that a user asks for, checked against the other arguments
"""
