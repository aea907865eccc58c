"""Pulumi components for GPU inference that scales from zero and cannot outspend its monthly budget.

`settings` reads a stack's configuration, `clouds` finds the components of the stack's cloud, and one folder per
cloud (`aws`) holds the same five classes: Network, InferenceQueue, GpuFleet, BudgetGuard, QueueDepthScaler.
`naming`, `catalog`, `sizing` and `costs` are pure and know nothing of Pulumi.
"""
