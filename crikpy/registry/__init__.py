"""Image registries: what an image would run, asked over the OCI distribution API."""
