"""Containers and codecs: probe, decode, encode, parts and publishing.  The only room that knows libav's containers."""
