"""From traffic to waits and cost."""
