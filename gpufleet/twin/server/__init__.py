"""The embedded cloud behind loopback HTTP: AWS's own wire protocols, for the AWS CLI, any SDK and the real engine."""
