"""The chunk store: immutable chunks and manifests over a directory or S3."""
