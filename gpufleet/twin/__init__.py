"""The twin: an embedded cloud that runs the very program, functions and worker that get deployed.

One process, one virtual clock, moto underneath, and strict models of our own where moto is lenient
(queues, Auto Scaling groups, instances, functions, schedules, topics, alarms, budgets).
"""
