"""Artifacts for a release: names, manifest, checksums. Nothing here touches the network."""
