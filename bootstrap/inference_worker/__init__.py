"""What runs on a GPU node beside the model server: the worker, the readiness check and the allowance watchdog.

Standard library and boto3 only. Everything the outside world touches goes through `runtime.Runtime`.
"""
