"""What the real Pulumi CLI needs to work against the embedded cloud: the AWS provider as a plugin, a language host for
a CLI that came without one, and how to find, set up and run that CLI."""
