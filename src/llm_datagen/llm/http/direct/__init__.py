"""Calls over connections of this package, for little processor time.

Layout:
    direct_post.py      posts
    connections.py      the connections of an endpoint that are kept
    connection.py       one of them
    response_reader.py  reads what comes on it
"""
