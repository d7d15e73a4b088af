"""The worker: plans a run, carries out its stages through a content-addressed cache, judges and publishes the result.

Knows nothing of the cluster: it is given a RunRequest and a store, and answers with progress and a Result.
"""
