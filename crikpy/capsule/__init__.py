"""The job's container from outside: launcher protocol, namespaces, PIDs, cgroup, files, stdio."""
