"""The web page of runs: a small server on this machine, which reads run folders and speaks to control sockets.

Needs the extra ``web``. It is a process of its own: a run never waits for it.

Layout:
    server.py      the application, and how it is served
    beside_run.py  the page beside a run, started by it
    security.py    who is answered: token, cookie, Host, Origin; and what browsers may do with an answer
    answers.py     JSON answers, and errors as JSON
    page_files.py  the files of the page, in page/
    folders.py     the folders of runs, and the keys by which the page names runs
    run_view.py    the JSON of a run; node_view.py that of its nodes, stream_view.py that of its streams
    log_view.py    that of its log; cost_view.py of its course and cost; compare_view.py of two runs
    row_view.py    that of rows; family_view.py of a row's relatives
    budgets.py     what it may spend
    run_list.py    reads all runs; looking.py one, on threads
    runs_api.py    requests about runs; details_api.py about the details of one
    rows_api.py    requests about rows
    metrics_api.py requests of Prometheus
    events.py      server-sent events
    commands.py    commands; go_on.py those that start a process
"""
