"""Training on: losses, data in a seeded order, a loop that can be killed and resumed, and what it keeps."""
