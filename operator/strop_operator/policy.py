"""What the namespace's policy grants: the contract's own judgement, which the command line asks too."""

from strop_api.grants import Grant, Refusal, claims, resolve, resolve_clean_up, resources

__all__ = ["Grant", "Refusal", "claims", "resolve", "resolve_clean_up", "resources"]
