"""The process of the cluster: notices become taints, orders and evictions; new pods get their launcher."""
