"""What `segment` costs on a long video, beside the load generator on the same server."""
