"""The companion command: check stack files, try a stack on the embedded cloud, operate a fleet."""
