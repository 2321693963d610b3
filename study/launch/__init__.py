"""From a plan to trials that run: the cluster, the searcher, what each trial gets, and what is shown meanwhile."""
