"""`cluster-ai report`: what the cluster did over some days, as one page of plots."""
