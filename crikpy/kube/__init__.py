"""The Kubernetes API: raw JSON in and out, watched, leased, evented; the only room that knows its client."""
