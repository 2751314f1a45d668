"""Small programs that are moved by the integration tests; each proves its own state when it is asked to."""
