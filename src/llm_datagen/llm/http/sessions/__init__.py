"""Requests by aiohttp, which is imported with this package only.

Layout:
    session.py       requests by any method, through a proxy, and responses that are read as they come
    session_post.py  posts, through a proxy
    stream_post.py   posts, and reads an answer that is streamed
    connector.py     the connections: none is used again that is not clean
"""
