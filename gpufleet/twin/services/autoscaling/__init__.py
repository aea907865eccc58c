"""EC2 Auto Scaling: `rules` say what AWS accepts, `launching` what is launched where, `lifecycle` what happens to it.

`api.AutoScaling` is the service model; it keeps the groups and answers the calls.
"""

from .api import AutoScaling

__all__ = ["AutoScaling"]
