"""The C workloads: sources, built on first use by `numabench.workload.build`."""
