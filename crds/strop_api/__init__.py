"""The contract between users, the operator and the worker: both kinds, the result, the run request, the failure table.

Nothing here knows how a thing is done; it says what may be asked, what is answered, and what each word means.
Imports neither `strop_operator` nor `strop_job`, and no numeric library.
"""

GROUP = "strop.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
