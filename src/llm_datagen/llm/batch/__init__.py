"""Calls as rows of jobs of a provider's batch API, at half the price.

Layout:
    options.py        Batch: how rows are sent
    layers.py         the layers around: names a call; makes a plain call of what a job did not answer
    transport.py      a call: answered from the job log, or put into a job
    node_jobs.py      the jobs of one node: the job log, and who looks after them
    endpoint_state.py what is known of the jobs at one endpoint
    endpoint.py       the jobs at one endpoint: which row goes into which
    rows.py           rows and jobs in memory
    job_run.py        one job's way: sent; looked at; collected; deleted
    sending.py        sends a job, or looks for it
    giving_up.py      gives a job up
    asking.py         asks a provider, again and again
    finding.py        looks for jobs in its listing
    collecting.py     brings the results of a job in
    money.py          what rows cost
    records.py        what the job log has of jobs and rows
    job_log.py        what is on the disk: jobs, rows, answers, sums
    job_log_file.py   its file
    log_thread.py     it is open, and written on a thread
    cancelling.py     cancels the jobs of a run that nobody runs now
    settling.py       brings jobs to their end that nobody needs any more
    settling.py       brings jobs to their end that nobody needs any more
    stack.py          puts these together for an endpoint
"""
