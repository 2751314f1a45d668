"""CRIU as a port: build its argv, run it, feed and drain its streams, read its log."""
