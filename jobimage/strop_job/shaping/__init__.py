"""Steps on a torch module before its export: merge, prune, compact, fine-tune, distil. Each runs in a child process."""
