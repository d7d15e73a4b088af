"""The command line beside a cluster: `kubectl strop`, which is `strop`.

It speaks to the API server as its user, never to the operator; what optimizes on this machine is `strop_job`'s.
"""
