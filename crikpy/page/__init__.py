"""The status page: what people see of crikpy in a browser; it only shows, and changes nothing."""
