"""The controller: observe, decide, build, apply. It knows Kubernetes and the contract, nothing of models."""
