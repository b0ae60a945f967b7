"""How the answers of a row are drawn: params by its columns, and seeds.

Layout:
    row_requests.py the requests of a row, one for each sample
    params.py       fields of a request that are templates over the row
    seeds.py        a seed for every sample of every row
    together.py     the samples of a row by one request
"""
