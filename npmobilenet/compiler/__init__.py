"""From a graph with its weights to a plan that the kernels run."""
