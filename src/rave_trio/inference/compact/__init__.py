"""Our own kernels for networks of the Compact family (SRVGGNetCompact): docs/compact.md."""
