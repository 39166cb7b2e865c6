"""The machine: files, processes, the node, configuration. Knows no jobs."""
