"""The AWS functions: controller, scale-to-zero (the guard) and queue keeper, and the thin adapters they share."""
