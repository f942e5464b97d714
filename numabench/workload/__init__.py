"""The C workloads: what they are, how they are built, how they are started."""
